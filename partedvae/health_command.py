"""The command `health`: asks a server's health service and ends with 0 or 1, for containers and scripts.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

from pathlib import Path

import click

from partedvae.commands import server_option

CHECK = "/grpc.health.v1.Health/Check"
STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
"""Of grpc.health.v1.HealthCheckResponse, by number."""

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(context_settings={"auto_envvar_prefix": "PARTEDVAE_HEALTH"})
@server_option
@click.option("--service", default="", help="Ask for one service by its full name; the server as a whole otherwise.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, help="Seconds.")
@click.option(
    "--tls-ca", type=_file, help="PEM file of the authority that signed the server's certificate: ask over TLS."
)
@click.option("--tls-cert", type=_file, help="PEM file of the client's certificate, for a server that wants one.")
@click.option("--tls-key", type=_file, help="PEM file of its key.")
def health(
    server: str, service: str, timeout: float, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None
) -> None:
    """Tell whether a server answers: exit code 0 when it says SERVING, 1 otherwise.

    Each option is an environment variable too, PARTEDVAE_HEALTH_SERVER and so on.
    """
    import grpc

    # Of the same form on the wire as the two messages of grpc.health.v1, whose package the base does not bring.
    from google.protobuf.wrappers_pb2 import Int32Value, StringValue

    if (tls_cert is None) != (tls_key is None) or (tls_cert is not None and tls_ca is None):
        raise click.UsageError("--tls-cert and --tls-key go together, and with --tls-ca")
    if tls_ca is None:
        channel = grpc.insecure_channel(server)
    else:
        key, cert = (path.read_bytes() if path else None for path in (tls_key, tls_cert))
        channel = grpc.secure_channel(server, grpc.ssl_channel_credentials(tls_ca.read_bytes(), key, cert))
    with channel:
        check = channel.unary_unary(
            CHECK, request_serializer=StringValue.SerializeToString, response_deserializer=Int32Value.FromString
        )
        try:
            number = check(StringValue(value=service), timeout=timeout).value
        except grpc.RpcError as error:
            raise click.ClickException(f"{server}: {error.code().name}, {error.details()}") from error
    status = STATUSES[number] if number in range(len(STATUSES)) else str(number)
    if status != "SERVING":
        raise click.ClickException(f"{server}: {status}")
    click.echo(status)
