"""What an attack is: a coroutine that sends what it likes until its time is over, and counts the answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import grpc

from benchmarks.attack.http2 import CLOSED, Connection, RawConnection, grpc_message
from benchmarks.attack.target import Target

CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)
"""No limits on messages, a connection per channel, no proxy."""
CALL_SECONDS = 20.0
"""Deadline of the attackers' ordinary calls."""
UNANSWERED = "no answer until the end"
"""Outcome of a call that was active when the attack ended."""
NEVER_ANSWERED = "never answered"
"""Outcome of a request that the server should have answered, but did not."""
RECONNECT_SECONDS = 0.05
"""Pause before an attacker connects again."""

Options = Literal["default", "kubernetes", "tokens"]
"""Options of the server: its defaults with a memory budget; those of deploy/kubernetes.yaml; these and a token file."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack."""

    name: str
    sends: str
    """What it sends, for the table."""
    run: Callable[[AttackRun], Coroutine[None, None, None]]
    """Runs until it is cancelled."""
    options: Options
    before: str
    """What it did to version 0.1; "–" if it was not measured."""
    must_stop: bool
    """Whether the server is stopped by SIGTERM right after the attack, which must end it within its grace period."""


def attack(
    sends: str, *, options: Options = "kubernetes", before: str = "–", must_stop: bool = False
) -> Callable[[Callable[[AttackRun], Coroutine[None, None, None]]], Attack]:
    """Make an attack of a coroutine function, with its name; see `Attack` for the arguments."""

    def make(function: Callable[[AttackRun], Coroutine[None, None, None]]) -> Attack:
        name = getattr(function, "__name__").replace("_", "-")  # noqa: B009  # a Callable has no such attribute for mypy
        return Attack(name=name, sends=sends, run=function, options=options, before=before, must_stop=must_stop)

    return make


class AttackRun:
    """A run of an attack against a server: connections, and counts of outcomes.

    The time of the attack counts from its first connection, so that large payloads can be built before.
    """

    def __init__(self, target: Target, on_start: Callable[[], None]) -> None:
        """Create a run.

        Args:
            target: the server.
            on_start: called before the first connection.
        """
        self.target = target
        self.outcomes: Counter[str] = Counter()
        """Number of requests by the name of their status, or by how else they ended."""
        self._on_start: Callable[[], None] | None = on_start

    def start(self) -> None:
        """Begin to count the time, unless it is counted already."""
        if self._on_start is not None:
            on_start, self._on_start = self._on_start, None
            on_start()

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """Connect by gRPC within the block."""
        self.start()
        async with grpc.aio.insecure_channel(self.target.address, options=CHANNEL_OPTIONS) as channel:
            yield channel

    @asynccontextmanager
    async def connection(self, *, window: int = 65_535, reads: bool = True) -> AsyncIterator[Connection]:
        """Connect by HTTP/2 within the block; see `Connection.open`."""
        self.start()
        async with Connection.open(self.target.address, window=window, reads=reads) as connection:
            yield connection

    @asynccontextmanager
    async def raw(self, *, reads: bool = True, address: str | None = None) -> AsyncIterator[RawConnection]:
        """Connect by TCP within the block; see `RawConnection.open`."""
        self.start()
        async with RawConnection.open(address or self.target.address, reads=reads) as connection:
            yield connection

    async def call(
        self,
        channel: grpc.aio.Channel,
        path: str,
        message: bytes,
        *,
        seconds: float = CALL_SECONDS,
        metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        """Make a unary call and count its status."""
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        try:
            await method(message, timeout=seconds, metadata=tuple(metadata))
        except asyncio.CancelledError:
            self.outcomes[UNANSWERED] += 1
            raise
        except grpc.aio.AioRpcError as error:
            self.outcomes[error.code().name] += 1
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                await asyncio.sleep(RECONNECT_SECONDS)
        else:
            self.outcomes["OK"] += 1

    async def stream(self, path: str, messages: Sequence[bytes]) -> None:
        """Send messages on a stream of a new connection, read all replies, and count the status.

        Not by gRPC's client, which reports INTERNAL where the server ends the call before the client has sent all.

        Raises:
            OSError: nothing listens there, or the server has closed the connection.
        """
        async with self.connection() as connection:
            stream = await connection.request(path, b"".join(map(grpc_message, messages)))
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    self.outcomes[await connection.outcome(stream)] += 1
            except TimeoutError:
                self.outcomes[NEVER_ANSWERED] += 1
            except asyncio.CancelledError:
                self.outcomes[UNANSWERED] += 1
                raise

    async def repeat(
        self, callers: int, work: Callable[[], Awaitable[None]], connection: Connection | None = None
    ) -> None:
        """Run a number of tasks, each of which repeats some work; lost connections are counted.

        Args:
            callers: number of tasks.
            work: what they repeat.
            connection: connection that they share, with whose loss they end; by default they end with the attack.
        """

        async def caller() -> None:
            while connection is None or not connection.closed:
                try:
                    await work()
                except OSError:
                    self.outcomes[CLOSED] += 1
                    await asyncio.sleep(RECONNECT_SECONDS)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(callers):
                tasks.create_task(caller())


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What an attack did."""

    outcomes: Counter[str]
    """As `AttackRun.outcomes`."""
    begin: float
    """When it connected, by the monotonic clock, in seconds."""
    end: float


async def run_attack(attack: Attack, target: Target, seconds: float) -> AttackResult:
    """Run an attack for some seconds from its first connection."""
    timeout = asyncio.timeout(None)
    begin = time.monotonic()

    def start() -> None:
        nonlocal begin
        begin = time.monotonic()
        timeout.reschedule(asyncio.get_running_loop().time() + seconds)

    run = AttackRun(target, start)
    with suppress(TimeoutError):
        async with timeout:
            await attack.run(run)
    return AttackResult(outcomes=run.outcomes, begin=begin, end=time.monotonic())
