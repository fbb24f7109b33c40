"""The options with which commands connect to a server.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partedvae.common.click_paths import LocalPath

if TYPE_CHECKING:
    import grpc

    from partedvae.client import Client

_FILE = LocalPath(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--token-file", type=_FILE, metavar="FILE", help="File with the bearer token in its first line."),
    click.option("--tls", is_flag=True, help="Encrypt; trust the default authorities."),
    click.option("--tls-ca", type=_FILE, metavar="PEM", help="Encrypt; trust the authorities of this file."),
    click.option("--tls-cert", type=_FILE, metavar="PEM", help="Client certificate, if the server requires one."),
    click.option("--tls-key", type=_FILE, metavar="PEM", help="Private key of --tls-cert."),
)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How to connect to a server; the arguments are those of `partedvae.Client`."""

    server: str
    """HOST:PORT."""
    token_file: Path | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def channel(self) -> grpc.Channel:
        """Return a bare channel, without the token, for services other than PartedVAE's.

        Raises:
            PartedVAEError: options exclude each other.
            OSError: a file cannot be read.
        """
        import grpc

        from partedvae.channel import channel_credentials

        credentials = channel_credentials(tls=self.tls, ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key)
        if credentials is None:
            return grpc.insecure_channel(self.server)
        return grpc.secure_channel(self.server, credentials)

    def client(self, model: str = "", version: int = 0) -> Client:
        """Return a client.

        Raises:
            PartedVAEError: options exclude each other.
            OSError: a file cannot be read.
        """
        from partedvae.client import Client

        return Client(
            self.server,
            model=model,
            version=version,
            token=self.token_file,
            tls=self.tls,
            ca=self.tls_ca,
            cert=self.tls_cert,
            key=self.tls_key,
        )


def connection_options(*, default_server: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds --server and its options to a command and passes them to it as `connection`.

    Args:
        default_server: the default of --server. With None, `connection` is None where the option is not given.
    """
    server_option = click.option(
        "--server",
        metavar="HOST:PORT",
        default=default_server,
        show_default=default_server is not None,
        help="Address of the server." if default_server else "Compute on this server.",
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_connection(*, server: str | None, **arguments: Any) -> Any:
            names = ("token_file", "tls", "tls_ca", "tls_cert", "tls_key")
            given = {name: arguments.pop(name) for name in names}
            if server is None and any(given.values()):
                option = next(name for name in names if given[name]).replace("_", "-")
                raise click.UsageError(f"--{option} requires --server")
            connection = None if server is None else Connection(server=server, **given)
            return command(connection=connection, **arguments)

        for option in reversed((server_option, *_OPTIONS)):
            option(with_connection)
        return with_connection

    return add
