"""The options with which commands connect to a server.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from partedvae.common import DEFAULT_TIMEOUT
from partedvae.common.click_numbers import FiniteFloatRange
from partedvae.common.click_options import ExplicitOption, RenamedOption
from partedvae.common.click_paths import LocalPath

if TYPE_CHECKING:
    import grpc

    from partedvae.aio import AsyncClient
    from partedvae.client import Client

_FILE = LocalPath(exists=True, dir_okay=False, path_type=Path)
_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("token_file", {"type": _FILE, "metavar": "FILE", "help": "File with the bearer token in its first line."}),
    ("tls", {"is_flag": True, "help": "Encrypt; trust the default authorities."}),
    ("tls_ca", {"type": _FILE, "metavar": "PEM", "help": "Encrypt; trust the authorities of this file."}),
    ("tls_cert", {"type": _FILE, "metavar": "PEM", "help": "Client certificate, if the server requires one."}),
    ("tls_key", {"type": _FILE, "metavar": "PEM", "help": "Private key of --tls-cert."}),
)


_AS_OPTIONS: tuple[tuple[str, str], ...] = (
    *(
        (rf"(?<!\S){argument}(?=[\s,;]|$)", option)  # Not within the name of a file.
        for argument, option in (
            ("tls=True", "--tls"),
            ("ca=", "--tls-ca"),
            ("cert=", "--tls-cert"),
            ("key=", "--tls-key"),
            ("token=", "--token-file"),
            ("timeout=", "--timeout"),
        )
    ),
    (r"^u_images: ", "--u-image: "),
    (r"^z_images: ", "IMAGE: "),
    (r"(there are several models); choose one of", r"\1; pass --model-name with one of"),
)
"""What errors of the client call its arguments, as regular expressions, and the options of commands for them."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How to connect to a server; the arguments are those of `partedvae.Client`."""

    server: str
    """HOST:PORT."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds per call."""
    token_file: Path | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def words(self) -> list[str]:
        """Return the options of a command that connects in the same way."""
        given = [f"--server={self.server}", f"--timeout={self.timeout}", *(["--tls"] if self.tls else [])]
        files = (("token-file", self.token_file), ("tls-ca", self.tls_ca), ("tls-cert", self.tls_cert))
        return [*given, *(f"--{name}={path}" for name, path in (*files, ("tls-key", self.tls_key)) if path is not None)]

    def channel(self) -> grpc.Channel:
        """Return a bare channel, without the token, for services other than PartedVAE's.

        Raises:
            PartedVAEError: options exclude each other.
            OSError: a file cannot be read.
        """
        import grpc

        from partedvae.channel import channel_credentials, proxy_options
        from partedvae.targets import check_target

        credentials = channel_credentials(tls=self.tls, ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key)
        check_target(self.server, encrypted=credentials is not None)
        options = proxy_options(self.server)
        if credentials is None:
            return grpc.insecure_channel(self.server, options)
        return grpc.secure_channel(self.server, credentials, options)

    def client(self, model: str = "", version: int = 0) -> Client:
        """Return a client.

        Raises:
            PartedVAEError: options exclude each other.
            OSError: a file cannot be read.
        """
        from partedvae.client import Client

        return Client(self.server, model=model, version=version, **self._arguments())

    def async_client(self, model: str = "", version: int = 0) -> AsyncClient:
        """Return a client for asyncio; the errors are those of `client`."""
        from partedvae.aio import AsyncClient

        return AsyncClient(self.server, model=model, version=version, **self._arguments())

    def _arguments(self) -> dict[str, Any]:
        return {
            "timeout": self.timeout,
            "token": self.token_file,
            "tls": self.tls,
            "ca": self.tls_ca,
            "cert": self.tls_cert,
            "key": self.tls_key,
        }


def variables(name: str, *prefixes: str) -> dict[str, Any]:
    """Return the arguments of `click.option` that let environment variables set an option, and show them in --help.

    Args:
        name: of the parameter; `server` is set by PARTEDVAE_SERVER.
        prefixes: further prefixes of the variable, each of which precedes PARTEDVAE.
    """
    return {"envvar": [f"{prefix}_{name.upper()}" for prefix in (*prefixes, "PARTEDVAE")], "show_envvar": True}


def typed(ctx: click.Context, name: str) -> bool:
    """Return whether an option is on the command line, rather than in the environment or a default."""
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def connection_options(
    *, default_server: str | None, default_timeout: float = DEFAULT_TIMEOUT, prefixes: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds --server and its options to a command and passes them to it as `connection`.

    Each option is also an environment variable, PARTEDVAE_SERVER for --server.

    Args:
        default_server: the default of --server. With None, `connection` is None where the option is not given.
        default_timeout: the default of --timeout, in seconds.
        prefixes: further prefixes of the environment variables, each of which precedes PARTEDVAE.
    """
    server_option = click.option(
        "--server",
        cls=ExplicitOption,
        metavar="HOST:PORT",
        default=default_server,
        show_default=default_server is not None,
        help="Address of the server." if default_server else "Compute on this server.",
        **variables("server", *prefixes),
    )
    timeout_option = click.option(
        "--timeout",
        cls=ExplicitOption,
        metavar="SECONDS",
        type=FiniteFloatRange(min=0, min_open=True),
        default=default_timeout,
        show_default=True,
        help="Seconds to wait for the response to a call.",
        **variables("timeout", *prefixes),
    )
    others = [
        click.option(f"--{name.replace('_', '-')}", cls=ExplicitOption, **settings, **variables(name, *prefixes))
        for name, settings in _OPTIONS
    ]

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_connection(*, server: str | None, **arguments: Any) -> Any:
            given = {name: arguments.pop(name) for name in ("timeout", *(name for name, _ in _OPTIONS))}
            if server is None:
                ctx = click.get_current_context()
                for name in given:
                    if typed(ctx, name):
                        raise click.UsageError(f"--{name.replace('_', '-')} requires --server")
            connection = None if server is None else Connection(server=server, **given)
            try:
                return command(connection=connection, **arguments)
            except click.ClickException as error:
                if isinstance(error, click.UsageError):
                    raise  # Of the command itself.
                raise click.ClickException(with_options(error.message)) from error.__cause__

        for option in reversed((server_option, timeout_option, *others)):
            option(with_connection)
        return with_connection

    return add


def with_options(message: str) -> str:
    """Return an error of the client with the options of commands in place of its arguments."""
    for argument, option in _AS_OPTIONS:
        message = re.sub(argument, option, message)
    return message


def _check_name(ctx: click.Context, parameter: click.Parameter, name: str) -> str:
    """Check that the name of a model is not a path, which --model of `extract` is."""
    if "/" in name or os.sep in name:
        raise click.BadParameter(
            f"{name!r} is a path; a server's models are selected by their name, which 'partedvae models' lists",
            ctx,
            parameter,
        )
    return name


def model_options(*flags: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options that select a model of a server: `model_name` and `model_version`.

    Args:
        flags: former spellings of --model-name, which are accepted and not shown; each also has a variable.
    """
    flags = ("--model-name", *flags)
    name_option = click.option(
        *flags,
        "model_name",
        cls=RenamedOption,
        metavar="NAME",
        default="",
        callback=_check_name,
        help="Name (not the folder) of the server's model, if it has several.",
        envvar=[f"PARTEDVAE_{flag.strip('-').replace('-', '_').upper()}" for flag in flags],
        show_envvar=True,
    )
    version_option = click.option(
        "--model-version",
        cls=ExplicitOption,
        metavar="N",
        type=click.IntRange(0, 2**63 - 1),
        default=0,
        help="Version of the model; 0 is the newest that works.",
        **variables("model_version"),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        return name_option(version_option(command))

    return add
