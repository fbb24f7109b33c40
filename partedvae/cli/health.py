"""The command `health`: asks a server's health service and ends with 0 or 1, for containers and scripts.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

import click

from partedvae.cli.connection import Connection, connection_options
from partedvae.common import DEFAULT_ADDRESS

CHECK = "/grpc.health.v1.Health/Check"
STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
"""Of grpc.health.v1.HealthCheckResponse, by number."""


@click.command(context_settings={"auto_envvar_prefix": "PARTEDVAE_HEALTH"})
@connection_options(default_server=DEFAULT_ADDRESS)
@click.option("--service", default="", help="Ask for one service by its full name; the server as a whole otherwise.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, help="Seconds.")
def health(connection: Connection, service: str, timeout: float) -> None:
    """Tell whether a server answers: exit code 0 when it says SERVING, 1 otherwise.

    Each option is an environment variable too, PARTEDVAE_HEALTH_SERVER and so on.
    """
    import grpc

    # Of the same form on the wire as the two messages of grpc.health.v1, whose package the base does not bring.
    from google.protobuf.wrappers_pb2 import Int32Value, StringValue

    from partedvae.channel import call_metadata, channel_credentials
    from partedvae.errors import PartedVAEError

    server = connection.server
    try:
        secure = channel_credentials(
            tls=connection.tls, ca=connection.tls_ca, cert=connection.tls_cert, key=connection.tls_key
        )
        metadata = call_metadata(connection.token_file)
    except (PartedVAEError, OSError) as error:
        raise click.ClickException(str(error)) from error
    with grpc.insecure_channel(server) if secure is None else grpc.secure_channel(server, secure) as channel:
        check: grpc.UnaryUnaryMultiCallable[StringValue, Int32Value] = channel.unary_unary(
            CHECK, request_serializer=StringValue.SerializeToString, response_deserializer=Int32Value.FromString
        )
        try:
            number = check(StringValue(value=service), timeout=timeout, metadata=metadata).value
        except grpc.RpcError as error:
            raise click.ClickException(f"{server}: {error.code().name}, {error.details()}") from error
    status = STATUSES[number] if number in range(len(STATUSES)) else str(number)
    if status != "SERVING":
        raise click.ClickException(f"{server}: {status}")
    click.echo(status)
