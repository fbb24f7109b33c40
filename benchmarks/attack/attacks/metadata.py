"""Metadata: as large as it may be and larger, thousands of entries, ids, tokens."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable

from hpack import Encoder, NeverIndexedHeaderTuple

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.attacks.connections import PREFACE, SETTINGS
from benchmarks.attack.attacks.frames import header_block, headers_frame
from benchmarks.attack.http2 import grpc_message
from benchmarks.attack.messages import classify, pixels
from benchmarks.attack.target import HEALTH, SERVICE

AT_ONCE = 32
Metadata = tuple[tuple[str, str | bytes], ...]


async def _call_with(run: AttackRun, metadata: Iterable[Metadata], path: str = SERVICE + "ListModels") -> None:
    each = iter(metadata)
    async with run.channel() as channel:
        await run.repeat(AT_ONCE, lambda: run.call(channel, path, b"", metadata=next(each)))


@attack("metadata of 6 KB, 12 KB and 1 MB, one entry or thousands")
async def large_metadata(run: AttackRun) -> None:
    """Send metadata around gRPC's limits."""
    kinds: list[Metadata] = [
        (("x-a", "b" * 6_000),),
        (("x-a", "b" * 12_000),),
        tuple((f"x-{number}", "b") for number in range(100)),
        tuple(("x-a", "b") for _ in range(5_000)),
        (("x-a-bin", bytes(4_000)),),
        (("x-a", "b" * 1_000_000),),
    ]
    await _call_with(run, itertools.cycle(kinds))


@attack("another x-request-id with each call")
async def request_ids(run: AttackRun) -> None:
    """Send another value each time, so that nothing may be kept per value."""
    await _call_with(run, ((("x-request-id", f"{number:x}" + "a" * 200),) for number in itertools.count()))


@attack("wrong, long, binary and doubled tokens, 32 at a time", options="tokens", before="tokens in the log")
async def wrong_tokens(run: AttackRun) -> None:
    """Guess tokens, and send values of authorization that are no tokens."""
    rng = random.Random(0)
    make: list[Callable[[], Metadata]] = [
        lambda: (("authorization", f"Bearer {rng.getrandbits(128):x}"),),
        lambda: (("authorization", "Bearer " + "a" * 7_000),),
        lambda: (("authorization", "Basic YTpi"),),
        lambda: (("authorization", ""),),
        lambda: (("authorization", "Bearer a"), ("authorization", "Bearer b")),
        lambda: (("authorization-bin", rng.randbytes(100)),),
        lambda: (),
    ]
    await _call_with(run, (next(turn)() for turn in itertools.repeat(itertools.cycle(make))))


@attack("tokens and paths with control characters and bytes above 0x7f", options="tokens", before="forged log lines")
async def raw_header_bytes(run: AttackRun) -> None:
    """Send header values that HTTP forbids; gRPC's own clients refuse to send them."""
    plain = header_block(run.target, SERVICE + "ListModels")
    values = (b"Bearer \xff\xfe", b"Bearer a\nb", b"Bearer \0", b"\xc3\x28")
    blocks = [plain + Encoder().encode([NeverIndexedHeaderTuple(b"authorization", value)]) for value in values]
    blocks += [header_block(run.target, "/a\nERROR forged"), header_block(run.target, "/\x1b[31m" + HEALTH * 100)]

    async def client() -> None:
        async with run.raw() as connection:
            await connection.send(PREFACE + SETTINGS)
            for stream, block in zip(range(1, 400, 2), itertools.cycle(blocks)):
                await connection.send(headers_frame(stream, block, "END_HEADERS", "END_STREAM"))
                run.outcomes["sent"] += 1

    await run.repeat(8, client)


@attack("large valid requests without a token, 32 at a time", options="tokens")
async def large_without_token(run: AttackRun) -> None:
    """Send whole messages that are refused for their token: they must not be kept, nor parsed."""
    count = min(run.target.max_images, run.target.max_message_bytes // run.target.image_bytes - 1)
    body = grpc_message(classify(run.target, pixels(run.target, count)))

    async def client() -> None:
        async with run.connection() as connection:

            async def send() -> None:
                stream = await connection.request(SERVICE + "Classify", body)
                run.outcomes[await connection.outcome(stream)] += 1

            await run.repeat(8, send, connection)

    await run.repeat(4, client)
