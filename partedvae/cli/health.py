"""The command `health`: queries a server's health service and exits with 0 or 1, for containers and scripts.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

import click

from partedvae.cli.connection import Connection, connection_options
from partedvae.common import DEFAULT_ADDRESS
from partedvae.common.click_errors import click_errors
from partedvae.errors import PartedVAEError, proxy_hint


@click.command(context_settings={"auto_envvar_prefix": "PARTEDVAE_HEALTH"})
@connection_options(default_server=DEFAULT_ADDRESS, default_timeout=5.0, prefixes=["PARTEDVAE_HEALTH"])
@click.option("--service", default="", help="Full name of one service; the whole server by default.")
@click_errors(PartedVAEError, OSError)
def health(connection: Connection, service: str) -> None:
    """Check the health of a server.

    The exit code is 0 when the server answers SERVING, and 1 otherwise.

    Each option is also an environment variable: PARTEDVAE_HEALTH_SERVER, or PARTEDVAE_SERVER, for --server.
    """
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    from partedvae.channel import call_metadata

    server = connection.server
    metadata = call_metadata(connection.token_file)
    with connection.channel() as channel:
        try:
            response = HealthStub(channel).Check(
                HealthCheckRequest(service=service), timeout=connection.timeout, metadata=metadata
            )
        except grpc.RpcError as error:
            hint = proxy_hint(server) if error.code() is grpc.StatusCode.UNAVAILABLE else ""
            raise click.ClickException(f"{server}: {error.code().name}, {error.details()}{hint}") from error
    status = HealthCheckResponse.ServingStatus.Name(response.status)
    if status != "SERVING":
        raise click.ClickException(f"{server}: {status}")
    click.echo(status)
