"""ONNX Runtime alone: the throughput that no server can exceed on these processors.

Everything but the server is the same: sessions are opened by the server's own code with its settings, as by one worker
that uses all processors, and as by one worker per processor; graphs get the inputs, and return the outputs, of the
measured requests. Since a machine is not equally fast all the time, the measurement is repeated between the servers,
and the limit is the highest of all: a server's figure is the highest of several loads too.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Literal

from benchmarks.serving.load import BenchmarkError, warm_up_seconds
from benchmarks.serving.requests import feature_names, pixels
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import Bundle, load_bundle
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.sampling import draw

Graph = Literal["features", "generate"]
"""The encoder as `ExtractFeatures` runs it, or the decoder as `Generate` does."""
GRAPHS: tuple[Graph, ...] = ("features", "generate")
BATCHES = (16, 64, 256)
"""Images per run. A server forms batches of many sizes."""
SHARE_OF_SECONDS = 0.2
"""Duration of each measurement relative to that of a load: there are many, and the best counts."""
MIN_SECONDS = 0.2
"""Minimum duration, of some runs of the largest batch."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The highest throughput of a graph, and how it was reached."""

    images_per_second: float
    processes: int
    threads: int
    """Threads per process, which share a session."""
    rows: int
    """Images per run."""

    def __str__(self) -> str:
        """Return the limit as a phrase of a sentence."""
        return (
            f"{self.images_per_second:,.0f} images/s (batches of {self.rows}, {self.processes} "
            f"process{'es' * (self.processes > 1)} with {self.threads} thread{'s' * (self.threads > 1)})"
        )


class OrtAlone:
    """The limits of a bundle, which rise as they are measured again."""

    def __init__(self, bundle: Bundle, seconds: float, precisions: Collection[str] = ("fp32",)) -> None:
        """Measure nothing yet.

        Args:
            bundle: the model.
            seconds: duration of a load of the servers; each measurement here takes a part of it.
            precisions: values of `partedvae serve --precision` to measure.
        """
        self._folder = bundle.folder
        self._seconds = max(MIN_SECONDS, SHARE_OF_SECONDS * seconds)
        self.limits: dict[str, dict[Graph, Limit]] = {precision: {} for precision in precisions}
        """By precision and graph."""

    def measure(self) -> None:
        """Measure each graph with each batch size and each division of the processors, and keep the best.

        Raises:
            BenchmarkError: a process has ended.
        """
        cpus = available_cpus()
        for precision, limits in self.limits.items():
            for processes in sorted({1, cpus}):
                threads = cpus // processes
                for graph, rows, rate in _measure(self._folder, precision, processes, threads, self._seconds):
                    if graph not in limits or rate > limits[graph].images_per_second:
                        limits[graph] = Limit(images_per_second=rate, processes=processes, threads=threads, rows=rows)

    def share(self, graph: Graph, images_per_second: float, precision: str = "fp32") -> float:
        """Return a throughput relative to the limit of a precision."""
        return round(images_per_second / self.limits[precision][graph].images_per_second, 3)

    def as_json(self) -> dict[str, Any]:
        """Return all limits, for a JSON file."""
        return {
            precision: {graph: asdict(limit) for graph, limit in limits.items()}
            for precision, limits in self.limits.items()
        }

    def describe(self) -> str:
        """Return the limits as a sentence."""
        limits = "; ".join(
            f"{precision} encoder {limits['features']}, decoder {limits['generate']}"
            for precision, limits in self.limits.items()
        )
        return f"ONNX Runtime alone, best of all batch sizes and divisions of the processors: {limits}."


def _measure(
    folder: Path, precision: str, processes: int, threads: int, seconds: float
) -> list[tuple[Graph, int, float]]:
    """Return graph, images per run, and images per second of each measurement."""
    spawn = multiprocessing.get_context("spawn")
    arguments = (folder, precision, threads, spawn.Barrier(processes))
    results: list[tuple[Graph, int, float]] = []
    try:
        with ProcessPoolExecutor(processes, spawn, _start, arguments) as pool:
            for graph in GRAPHS:
                for rows in BATCHES:
                    runs = sum(pool.map(_count_runs, *zip(*[(graph, rows, seconds)] * processes, strict=True)))
                    results.append((graph, rows, round(rows * runs / seconds, 1)))
    except BrokenProcessPool as error:
        raise BenchmarkError(f"a process that measures ONNX Runtime alone has ended: {error}") from error
    return results


_process: dict[str, Any] = {}
"""What a process of the pool has loaded."""


def _start(folder: Path, precision: str, threads: int, barrier: Barrier) -> None:
    """Load the model as a worker of the server does: one thread per run, and several runs at once."""
    options: dict[str, Any] = {} if precision == "fp32" else {"precision": precision}
    model = OnnxModel.load(load_bundle(folder), threads=1, **options)
    model.warm_up()
    _process.update(model=model, threads=threads, barrier=barrier)


def _count_runs(graph: Graph, rows: int, seconds: float) -> int:
    """Return the runs within some seconds, which begin in all processes at once."""
    run = _runner(_process["model"], graph, rows)
    # With one task per process, each waits here for the others.
    _process["barrier"].wait()
    begin = time.perf_counter() + warm_up_seconds(seconds)
    end = begin + seconds
    counts: list[int] = []

    def repeat() -> None:
        runs = 0
        while (now := time.perf_counter()) < end:
            run()
            runs += begin <= now
        counts.append(runs)

    callers = [threading.Thread(target=repeat) for _ in range(_process["threads"])]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return sum(counts)


def _runner(model: OnnxModel, graph: Graph, rows: int) -> Callable[[], object]:
    """Return a function that runs a graph with the inputs and outputs of the measured requests."""
    if graph == "features":
        images, outputs = pixels(model.manifest, rows), feature_names(model.manifest)
        return lambda: model.encode(images, outputs)
    latents = draw(model.manifest, rows, {}, seed=0)
    return lambda: model.decode(latents.u, latents.z)
