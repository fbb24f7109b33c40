"""Small image files that take much memory or time to decode."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import grpc
from PIL import Image

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.image_files import jpeg_with_scans, large_pictures, saved, slow_pictures
from benchmarks.attack.messages import classify, files, stream_features
from benchmarks.attack.target import SERVICE
from partedvae.v1 import service_pb2 as pb

AT_ONCE = 16
PARTS = (1, 2, 4, 8)
"""Of the largest number of pixels: a server may refuse the largest images for the memory that they need."""
SCANS = (5000, 500, 50, 5)
"""Scans beyond those of an ordinary file; a server may refuse the most."""
SMALL_BYTES = 1 << 16
"""Size of files with fewer segments and chunks, which a server may accept."""
SCAN_SECONDS = 2.0
"""Deadline of the calls with slow files: the decoding must not go on after it."""


async def _classify(run: AttackRun, requests: Sequence[bytes], callers: int, *, seconds: float = 20.0) -> None:
    turns = itertools.cycle(requests)
    async with run.channel() as channel:
        await run.repeat(callers, lambda: run.call(channel, SERVICE + "Classify", next(turns), seconds=seconds))


@attack("files of 20 to 100 KB with 25 million pixels, eight formats, 16 calls at a time", before="4.9 GB")
async def pixel_bombs(run: AttackRun) -> None:
    """Send small files of the largest dimensions that the server accepts, and of parts of these."""
    sizes = [run.target.max_pixels // part for part in PARTS]
    requests = [classify(run.target, files(file)) for size in sizes for file in large_pictures(size)]
    await _classify(run, requests, AT_ONCE)


@attack("eight such files per request, on calls and on streams", options="default", before="4.9 GB")
async def pixel_bombs_in_one_request(run: AttackRun) -> None:
    """Send files that have the pixels of the largest image, and parts of it, together."""
    sets = [files(*large_pictures(run.target.max_pixels // (8 * part))) for part in PARTS]
    calls = itertools.cycle(classify(run.target, pictures) for pictures in sets)
    model = pb.ModelSelector(name=run.target.model)
    streams = itertools.cycle(
        pb.StreamFeaturesRequest(images=pictures, model=model).SerializeToString() for pictures in sets
    )
    async with run.channel() as channel:

        async def send() -> None:
            await run.call(channel, SERVICE + "Classify", next(calls))
            await run.stream(SERVICE + "StreamFeatures", [next(streams)] * 4)

        await run.repeat(AT_ONCE, send)


@attack(
    "progressive JPEG of up to 5,000 scans with deadlines of 2 s, 16 at a time, then SIGTERM",
    before="not ended 60 s after SIGTERM",
    must_stop=True,
)
async def progressive_jpeg(run: AttackRun) -> None:
    """Send files whose decoding takes minutes."""
    made = [jpeg_with_scans(run.target.max_pixels // part, scans) for part in PARTS for scans in SCANS]
    requests = [classify(run.target, files(file)) for file in made if len(file) < run.target.max_message_bytes // 2]
    await _classify(run, requests, AT_ONCE, seconds=SCAN_SECONDS)


@attack("files of many segments, chunks, strips, frames or runs, 28 kinds", before="held a thread")
async def slow_files(run: AttackRun) -> None:
    """Send files whose parsing takes long for their size, with short deadlines."""
    pixels = run.target.max_pixels // PARTS[-1]
    sizes = (run.target.max_message_bytes - 4096, SMALL_BYTES)
    made = [make() for size in sizes for make in slow_pictures(pixels, size).values()]
    requests = [classify(run.target, files(file)) for file in made]
    await _classify(run, requests, AT_ONCE, seconds=SCAN_SECONDS)


@attack("4,096 tiny files per request, and as many damaged ones, 16 calls at a time")
async def many_files(run: AttackRun) -> None:
    """Send as many files as a request may have; half of the requests fail at the last one."""
    file = saved(Image.new("L", (8, 8)), "PNG")
    whole = files(*[file] * run.target.max_images)
    damaged = files(*[file] * (run.target.max_images - 1), file[:40])
    await _classify(run, [classify(run.target, whole), classify(run.target, damaged)], AT_ONCE)


@attack("streams of files whose client leaves after the first reply")
async def abandoned_streams(run: AttackRun) -> None:
    """Cancel streams while their files are decoded and their images are queued."""
    message = stream_features(run.target, 64)
    async with run.channel() as channel:
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(SERVICE + "StreamFeatures")

        async def leave() -> None:
            call = method(iter([message] * 8), timeout=10)
            try:
                await call.read()
            except grpc.aio.AioRpcError as error:
                run.outcomes[error.code().name] += 1
            else:
                run.outcomes["CANCELLED" if call.cancel() else "OK"] += 1

        await run.repeat(AT_ONCE, leave)
