"""The options by which commands reach a server, the same in all of them.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import grpc

    from partedvae.client import Client

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--token-file", type=_FILE, metavar="FILE", help="Send the token of this file's first line."),
    click.option("--tls", is_flag=True, help="Encrypt, and trust the usual authorities."),
    click.option("--tls-ca", type=_FILE, metavar="PEM", help="Encrypt, and trust these authorities."),
    click.option("--tls-cert", type=_FILE, metavar="PEM", help="Certificate of yours, if the server asks for one."),
    click.option("--tls-key", type=_FILE, metavar="PEM", help="Private key of --tls-cert."),
)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How to reach a server; see `partedvae.Client` for what its arguments mean."""

    server: str
    """HOST:PORT."""
    token_file: Path | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def channel(self) -> grpc.Channel:
        """Make a bare channel, without a token, for other services than ours.

        Raises:
            PartedVAEError: options do not go together.
            OSError: a file cannot be read.
        """
        import grpc

        from partedvae.channel import channel_credentials

        credentials = channel_credentials(tls=self.tls, ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key)
        if credentials is None:
            return grpc.insecure_channel(self.server)
        return grpc.secure_channel(self.server, credentials)

    def client(self, model: str = "", version: int = 0) -> Client:
        """Make a client.

        Raises:
            PartedVAEError: options do not go together.
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
    """Add --server and how to reach it to a command, which takes them as `connection`.

    Args:
        default_server: where to ask without --server. None makes `connection` None where it is not given.
    """
    server_option = click.option(
        "--server",
        metavar="HOST:PORT",
        default=default_server,
        show_default=default_server is not None,
        help="Address of the server." if default_server else "Let a server compute.",
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_connection(*, server: str | None, **arguments: Any) -> Any:
            names = ("token_file", "tls", "tls_ca", "tls_cert", "tls_key")
            given = {name: arguments.pop(name) for name in names}
            if server is None and any(given.values()):
                option = next(name for name in names if given[name]).replace("_", "-")
                raise click.UsageError(f"--{option} goes with --server")
            connection = None if server is None else Connection(server=server, **given)
            return command(connection=connection, **arguments)

        for option in reversed((server_option, *_OPTIONS)):
            option(with_connection)
        return with_connection

    return add


@contextmanager
def connected(connection: Connection, model: str = "") -> Iterator[Client]:
    """Give a client; its errors become messages for the user."""
    from partedvae.errors import PartedVAEError, plain

    try:
        with connection.client(model) as client:
            yield client
    except BrokenPipeError:
        raise  # whoever reads our output has enough, which is no error of the server's
    except (PartedVAEError, OSError) as error:
        raise click.ClickException(plain(error)) from error
