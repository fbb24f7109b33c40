"""Load by `AsyncClient`: many coroutines of one program, each of which asks for the features of one image at a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any

from benchmarks.serving.load import BenchmarkError, Load, Measurement, Target, summarize
from benchmarks.serving.requests import SERVICE, pixels
from partedvae import AsyncClient, PartedVAEError
from partedvae.serving.bundle import Bundle

COROUTINES = 100
UNCOALESCED = "one message per call"
"""The client with its default arguments."""


def client_options() -> dict[str, dict[str, Any]]:
    """Return the arguments of the measured clients by name."""
    options: dict[str, dict[str, Any]] = {UNCOALESCED: {}}
    if "coalesce" in inspect.signature(AsyncClient).parameters:
        options["coalesced"] = {"coalesce": True}
    return options


def run(address: str, bundle: Bundle, seconds: float, options: dict[str, Any]) -> Measurement:
    """Measure the calls of one client with one connection.

    Args:
        address: HOST:PORT of the server.
        bundle: the model.
        seconds: duration of the measurement, after a warm-up.
        options: further arguments of `AsyncClient`.

    Raises:
        BenchmarkError: a call failed.
    """
    load = Load(connections=1, streams=COROUTINES, seconds=seconds)
    try:
        latencies = asyncio.run(_run(address, bundle, load, options))
    except PartedVAEError as error:
        raise BenchmarkError(f"a call of AsyncClient to {address} failed: {error}") from error
    # Only the number of images of the target matters here, and its address for errors.
    target = Target(address=address, path=f"{SERVICE}ExtractFeatures", message=b"", response_bytes=0, images=1)
    return summarize(target, load, latencies)


async def _run(address: str, bundle: Bundle, load: Load, options: dict[str, Any]) -> list[float]:
    image = pixels(bundle.manifest, 1)
    latencies: list[float] = []

    async with AsyncClient(address, model=bundle.name, **options) as client:
        begin = time.perf_counter() + load.warm_up
        end = begin + load.seconds

        async def caller() -> None:
            while (now := time.perf_counter()) < end:
                await client.features(image)
                done = time.perf_counter()
                if begin < done <= end:
                    latencies.append(1000 * (done - now))

        await asyncio.gather(*(caller() for _ in range(load.concurrent)))
    return latencies
