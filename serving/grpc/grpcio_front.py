"""The front of gRPC's own server for asyncio."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from partedvae.serving.config.addresses import cannot_listen, check_free, split_address
from partedvae.serving.config.serve_config import FrontName, ServeConfig

MAX_GRPC_MESSAGE_BYTES = 2**31 - 1
"""Maximum of gRPC's own limit of the message size."""
MIN_STREAMS = 256
"""Least limit of the concurrent calls of one connection in gRPC, which resets further ones: the limiter's status for
them, RESOURCE_EXHAUSTED with a time, is better. The limit is for clients that do not wait for a status."""
MAX_STREAMS = 2**31 - 1
"""Largest limit of the concurrent calls of one connection in HTTP/2."""
PENDING_SECONDS = 5
"""Time after which gRPC ends a call that the event loop has not accepted, with CANCELLED, which clients do not retry.

A longer time outlasts longer pauses; after a flood of such calls it takes the server longer to recover."""
KEEPALIVE_MS = 60_000
"""Time after which an idle connection is asked for a sign of life."""
KEEPALIVE_TIMEOUT_MS = 20_000
"""Time after which a connection without a sign of life is closed."""


class GrpcioFront:
    """gRPC's server. Create it in a running event loop."""

    name: FrontName = "grpcio"

    def __init__(
        self,
        config: ServeConfig,
        handlers: grpc.GenericRpcHandler,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        *,
        shared_port: bool = False,
        unix_socket: str | None = None,
    ) -> None:
        """Create a server.

        Args:
            config: address and limits.
            handlers: the methods of all services.
            interceptors: outermost first.
            shared_port: whether other worker processes listen on the same port.
            unix_socket: path of a socket to listen on instead of the address.
        """
        self._config = config
        self._shared_port = shared_port
        self._unix_socket = unix_socket
        # The front that has the socket limits the calls of each of its clients.
        streams = max_streams(config) if unix_socket is None else MAX_STREAMS
        # gRPC's asyncio part stops with its last user: that is the process now, and not this server, which any thread
        # may free while the event loop still reads what has arrived.
        grpc.aio.init_grpc_aio()
        self._server = grpc.aio.server(interceptors=interceptors, options=_options(config, shared_port, streams))
        self._server.add_generic_rpc_handlers([handlers])

    async def start(self) -> str:
        """Listen and accept calls; see `Front`.

        Raises:
            AddressError: the address is in use, or not an address of this machine.
            SecurityError: a certificate or a key cannot be used.
        """
        if self._unix_socket is not None:
            address = f"unix:{self._unix_socket}"
            self._server.add_insecure_port(address)
        else:
            address = self._listen()
        await self._server.start()
        return address

    async def stop(self, grace: float) -> None:
        """End all connections; see `Front`."""
        await self._server.stop(grace)

    def watch_memory(self, excess: int, most: int) -> int:
        """End nothing: the guard knows every call, and ends those that wait for their clients."""
        return 0

    def held_memory(self) -> int:
        """Return 0: the guard knows every call."""
        return 0

    def _listen(self) -> str:
        """Bind the address and return it with the port in use."""
        config = self._config
        host, _ = split_address(config.address)
        if not self._shared_port:  # With workers, the supervisor has checked it.
            check_free(config.address)
        try:
            if config.tls_cert is None or config.tls_key is None:
                return f"{host}:{self._server.add_insecure_port(config.address)}"
            from partedvae.serving.grpc.security import Certificates

            certificates = Certificates(config.tls_cert, config.tls_key, config.tls_client_ca)
            return f"{host}:{self._server.add_secure_port(config.address, certificates.credentials())}"
        except RuntimeError as error:
            raise cannot_listen(config.address, str(error)) from error


def max_streams(config: ServeConfig) -> int:
    """Return the limit of concurrent calls of one connection."""
    return max(MIN_STREAMS, config.max_concurrent_calls)


def _options(config: ServeConfig, shared_port: bool, streams: int) -> list[tuple[str, int]]:
    return [
        # Twice the limit, so that the handlers reject most oversized requests with a helpful message.
        ("grpc.max_receive_message_length", min(2 * config.max_message_bytes, MAX_GRPC_MESSAGE_BYTES)),
        ("grpc.max_send_message_length", -1),  # The services reject requests with oversized replies.
        # The handlers decompress up to the limit; gRPC has none.
        ("grpc.per_message_decompression", 0),
        # At most 64 KiB of a request arrive before it is read. gRPC would otherwise invite four megabytes.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_concurrent_streams", streams),
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.server_max_unrequested_time_in_server", PENDING_SECONDS),
        ("grpc.so_reuseport", int(shared_port)),  # Two servers must not share a port by accident.
        # Dead connections are detected within 80 s; clients may ping every 10 s.
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
