"""Which connections hold the memory of the native front: requests that have not arrived, and replies not taken.

The package does not report it. But the system counts what each connection has received and what its client has
acknowledged, and the front counts the requests and replies of each client: the difference is what the package holds.
It is an estimate. Headers and frames are bytes that are no requests; what streams carry goes to the server behind the
front, which does not know the client, so that each connection is credited with a share of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from partedvae.serving.grpc.connections import Endpoint, connections, disconnect_all, endpoint_of, transferred
from partedvae.serving.memory_budget import MIB

logger = logging.getLogger(__name__)

CALL_BYTES = 512
"""Bytes of headers and frames of a request: a hundred of an ordinary client, more with a token or for tracing."""
FRAME_SHARE = 128
"""Part of what is received that is frames: 9 bytes of each, which has 1 KiB or more in a large message."""
MIN_HELD = 64 * 1024
"""Bytes that a connection holds at least to be ended; more where more is to be freed, so that one with as little as
good clients have at any time is not ended while others hold it all."""
MIN_SHARE = 1024
"""Part of what is to be freed that a connection holds at least to be ended."""
ENDED_AT_ONCE = 16
"""Connections that are ended after one look."""
SETTLE_SECONDS = 0.1
"""Time in which the memory of connections that were ended is returned."""
QUIET_SECONDS = 5.0
"""Seconds between two looks at the connections while no memory is missing."""
WATCH_SECONDS = 0.25
"""Seconds between two looks at the connections while some is, but not too much."""
COST_RATIO = 4
"""Time between two looks, as a multiple of what one takes: some milliseconds with hundreds of connections."""
LOG_SECONDS = 1.0
"""Seconds between two warnings."""


class ClientTraffic:
    """Requests and replies of one client: counted without a lock, since losing a count now and then does no harm."""

    __slots__ = ("calls", "peer", "received", "sent")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        """Its address and port, "ipv4:127.0.0.1:4000"."""
        self.calls = 0
        """Calls that have arrived."""
        self.received = 0
        """Bytes of their requests, decompressed."""
        self.sent = 0
        """Bytes of replies."""


class _Connection:
    """A connection as it was at the last look, and what it seems to hold."""

    __slots__ = ("acknowledged", "calls", "delivered", "inflated", "received", "replies", "requests", "sent")

    def __init__(self) -> None:
        self.received = self.acknowledged = self.calls = self.delivered = self.sent = 0
        self.requests = self.replies = self.inflated = 0

    @property
    def held(self) -> int:
        """Bytes that it seems to hold."""
        return self.requests + self.replies + self.inflated

    def update(self, received: int, acknowledged: int, client: ClientTraffic) -> None:
        """Add what has happened since the last look."""
        arrived, delivered = received - self.received, client.received - self.delivered
        overhead = CALL_BYTES * (client.calls - self.calls) + arrived // FRAME_SHARE
        inflated = delivered - arrived - self.requests
        self.requests = max(0, self.requests + arrived - delivered - overhead)
        self.replies = max(0, self.replies + client.sent - self.sent - (acknowledged - self.acknowledged))
        # Requests that were much smaller on the wire: what follows them on this connection may be so too.
        self.inflated = self.inflated // 2 + max(0, inflated)
        self.received, self.acknowledged = received, acknowledged
        self.calls, self.delivered, self.sent = client.calls, client.received, client.sent

    def forget(self) -> None:
        """Count from here: what has been received so far is not held."""
        self.requests = self.replies = self.inflated = 0


class NativeTraffic:
    """The traffic of all clients. `client` is for the thread that receives calls, all else for the guard's thread."""

    def __init__(self, port: int, streamed: Callable[[], int]) -> None:
        """Count from the start of the server.

        Args:
            port: the port of the front.
            streamed: returns the bytes of all requests that the server behind it has received.
        """
        self._port = port
        self._streamed = streamed
        self._last_streamed = 0
        self._clients: dict[str, ClientTraffic] = {}
        self._connections: dict[Endpoint, _Connection] = {}
        self._looked = 0.0
        self._cost = 0.0
        self._logged = 0.0
        self._ended: tuple[float, int] = (0.0, 0)

    def client(self, peer: str) -> ClientTraffic:
        """Return the counts of a client, named as in its calls."""
        client = self._clients.get(peer)
        if client is None:
            client = self._clients[peer] = ClientTraffic(peer)
        return client

    @property
    def held(self) -> int:
        """Bytes that all connections seemed to hold at the last look. Can be asked in any thread."""
        return sum(connection.held for connection in self._connections.values())

    def watch_memory(self, excess: int, most: int) -> int:
        """Look at the connections, and end those that hold most if the process holds too much.

        Args:
            excess: bytes of the memory that are not reserved.
            most: bytes that it may be.

        Returns:
            How many connections were ended.
        """
        now = time.monotonic()
        if excess < most:
            if now - self._looked > (WATCH_SECONDS if excess > 0 else QUIET_SECONDS):
                self._look(now)
                if excess <= 0:
                    for connection in self._connections.values():
                        connection.forget()
            return 0
        when, size = self._ended
        wanted = excess - most // 2 - (size if now - when < SETTLE_SECONDS else 0)
        if wanted <= 0 or now - self._looked < COST_RATIO * self._cost:
            return 0
        self._look(now)
        return self._end_largest(now, wanted)

    def _look(self, now: float) -> None:
        """Compare what the system and the front have counted."""
        self._looked = now
        clients = {endpoint_of(peer): client for peer, client in list(self._clients.items())}
        seen: dict[Endpoint, _Connection] = {}
        for connection, endpoint in connections():
            try:
                if connection.getsockname()[1] != self._port:
                    continue
                received, acknowledged = transferred(connection)
            except OSError:
                continue
            known = self._connections.get(endpoint)
            if known is None or received < known.received:
                known = _Connection()
            known.update(received, acknowledged, clients.pop(endpoint, _NO_TRAFFIC))
            seen[endpoint] = known
        for client in clients.values():  # Their connections have ended.
            self._clients.pop(client.peer, None)
        self._connections = seen
        self._cost = time.monotonic() - now
        self._credit_streams()

    def _credit_streams(self) -> None:
        """Divide what streams have received among the connections, by what they seem to hold."""
        streamed = self._streamed()
        credit, self._last_streamed = streamed - self._last_streamed, streamed
        total = sum(connection.requests for connection in self._connections.values())
        if credit > 0 < total:
            for connection in self._connections.values():
                connection.requests -= min(connection.requests, connection.requests * credit // total)

    def _end_largest(self, now: float, wanted: int) -> int:
        """End the connections that hold most, until they hold so many bytes together."""
        least, freed = max(MIN_HELD, wanted // MIN_SHARE), 0
        victims: set[Endpoint] = set()
        for endpoint, connection in sorted(self._connections.items(), key=lambda item: -item[1].held):
            if connection.held < least or freed >= wanted or len(victims) == ENDED_AT_ONCE:
                break
            victims.add(endpoint)
            freed += connection.held
            logger.debug("closing the connection of %s port %d, which holds %d bytes", *endpoint, connection.held)
        if not victims:
            return 0
        self._ended = now, freed
        if now - self._logged > LOG_SECONDS:
            self._logged = now
            logger.warning(
                "closing %d connections: their unfinished requests and untaken replies hold %d MiB",
                len(victims),
                freed // MIB,
            )
        return disconnect_all(victims)


_NO_TRAFFIC = ClientTraffic("")
"""Of a connection without calls that have arrived."""
