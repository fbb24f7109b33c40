"""Measures single images from many callers of one client, with and without `coalesce`: tasks, then threads."""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.machine import describe, machine
from benchmarks.serving.server import running_server
from benchmarks.serving.tables import table
from partedvae import AsyncClient, Client
from partedvae.common.click_paths import LocalPath
from partedvae.results import ImageArray
from partedvae.v1.manifest_pb2 import ImageSpec

HEADER = ("client", "callers", "coalesce", "calls/s", "of one message per call", "p50 ms", "p99 ms")
WARM_UP = 0.5
"""Seconds before each measurement."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Calls of one variant."""

    client: str
    callers: int
    coalesce: bool | float
    calls_per_second: float
    p50_ms: float
    p99_ms: float


@click.command()
@click.option("--output", type=LocalPath(path_type=Path), required=True, help="JSON file to write.")
@click.option(
    "--models",
    type=LocalPath(path_type=Path),
    default=Path("demo/models"),
    show_default=True,
    help="Folder that holds the models.",
)
@click.option("--name", default="mnist", show_default=True, help="Name of the model.")
@click.option("--callers", type=click.IntRange(min=1), default=100, show_default=True, help="Tasks, and threads.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Per measurement.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Measurements per variant.")
@click.option(
    "--window-ms",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="Also measure coalesce=MILLISECONDS. Repeatable.",
)
def main(
    output: Path, models: Path, name: str, callers: int, seconds: float, rounds: int, window_ms: tuple[float, ...]
) -> None:
    """Measure single images from many callers, with and without coalesce. Run nothing else meanwhile."""
    variants: list[bool | float] = [False, True, *window_ms]
    measured: list[Rate] = []
    try:
        with running_server(models) as server:
            for _ in range(rounds):
                for measure in (tasks, threads):
                    for coalesce in variants:  # In turn, so that all variants see the same state of the machine.
                        measured.append(measure(server.address, name, coalesce, callers, seconds))
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    summary = medians(measured)
    facts = {"machine": machine(), "rates": [asdict(rate) for rate in summary]}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    click.echo(report(summary))


def tasks(address: str, model: str, coalesce: bool | float, callers: int, seconds: float) -> Rate:
    """Measure an `AsyncClient` that is shared by tasks of one event loop."""

    async def run() -> Rate:
        begin, durations = time.perf_counter() + WARM_UP, list[float]()

        async def caller(image: ImageArray) -> None:
            while (start := time.perf_counter()) < begin + seconds:
                await client.features(image)
                if start >= begin:
                    durations.append(time.perf_counter() - start)

        async with AsyncClient(address, model=model, coalesce=coalesce) as client:
            images = image_per_caller((await client.model_info()).manifest.image, callers)
            await asyncio.gather(*(caller(image) for image in images))
        return rate("AsyncClient", callers, coalesce, durations, seconds)

    return asyncio.run(run())


def threads(address: str, model: str, coalesce: bool | float, callers: int, seconds: float) -> Rate:
    """Measure a `Client` that is shared by threads."""
    begin, durations = time.perf_counter() + WARM_UP, list[float]()
    errors: list[Exception] = []

    def caller(image: ImageArray) -> None:
        try:
            while (start := time.perf_counter()) < begin + seconds:
                client.features(image)
                if start >= begin:
                    durations.append(time.perf_counter() - start)
        except Exception as error:
            errors.append(error)

    with Client(address, model=model, coalesce=coalesce) as client:
        images = image_per_caller(client.model_info().manifest.image, callers)
        running = [threading.Thread(target=caller, args=[image]) for image in images]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    if errors:
        raise BenchmarkError(f"a call failed: {errors[0]}")
    return rate("Client", callers, coalesce, durations, seconds)


def image_per_caller(spec: ImageSpec, callers: int) -> list[ImageArray]:
    """Return an image at the model's size for each caller, uint8 [1, height, width, channels]."""
    shape = (callers, 1, spec.height, spec.width, spec.channels)
    return list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def rate(client: str, callers: int, coalesce: bool | float, durations: list[float], seconds: float) -> Rate:
    """Return the rate of calls that began within some seconds."""
    if not durations:
        raise BenchmarkError(f"no call of {client} was answered within {seconds:g} s")
    p50, p99 = (float(value) for value in np.quantile(durations, (0.5, 0.99)))
    return Rate(
        client=client,
        callers=callers,
        coalesce=coalesce,
        calls_per_second=len(durations) / seconds,
        p50_ms=1000 * p50,
        p99_ms=1000 * p99,
    )


def medians(measured: Iterable[Rate]) -> list[Rate]:
    """Return the median of each number over the measurements of a variant, in the order of the first ones."""
    variants: dict[tuple[str, bool, float], list[Rate]] = {}
    for each in measured:
        variants.setdefault((each.client, each.coalesce is True, each.coalesce), []).append(each)

    def median(rates: list[Rate], value: Callable[[Rate], float]) -> float:
        return round(statistics.median(value(each) for each in rates), 2)

    return [
        Rate(
            client=rates[0].client,
            callers=rates[0].callers,
            coalesce=rates[0].coalesce,
            calls_per_second=median(rates, lambda each: each.calls_per_second),
            p50_ms=median(rates, lambda each: each.p50_ms),
            p99_ms=median(rates, lambda each: each.p99_ms),
        )
        for rates in variants.values()
    ]


def report(rates: list[Rate]) -> str:
    """Return the results in Markdown."""
    single = {each.client: each.calls_per_second for each in rates if each.coalesce is False}
    rows = [
        (
            each.client,
            f"{each.callers} {'tasks' if each.client == 'AsyncClient' else 'threads'}",
            each.coalesce if isinstance(each.coalesce, bool) else f"{each.coalesce:g} ms",
            f"{each.calls_per_second:,.0f}",
            f"{each.calls_per_second / single[each.client]:.1f}",
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
        )
        for each in rates
    ]
    return "\n\n".join([describe(machine()), table(HEADER, rows)])


if __name__ == "__main__":
    main()
