"""Throughput of ONNX Runtime without a server: the upper bound for serving on these processors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from partedvae.common.cpus import available_cpus
from partedvae.serving.onnx_runtime import ort

BATCH = 64
"""Rows per run."""


def rows_per_second(graph: Path, outputs: Sequence[str], feed: dict[str, Any], seconds: float) -> float:
    """Return the throughput of a graph on all processors: the faster of one session for all, and one for each.

    Args:
        graph: the ONNX file.
        outputs: names of the outputs to fetch.
        feed: inputs by name, with `BATCH` rows each.
        seconds: duration of each of the two measurements.
    """
    cpus = available_cpus()
    shared = _measure([_runner(graph, outputs, feed, threads=cpus)], seconds)
    separate = _measure([_runner(graph, outputs, feed, threads=1) for _ in range(cpus)], seconds) if cpus > 1 else 0.0
    return round(max(shared, separate), 1)


def _runner(graph: Path, outputs: Sequence[str], feed: dict[str, Any], threads: int) -> Callable[[], Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(list(outputs), feed)


def _measure(runners: Sequence[Callable[[], Any]], seconds: float) -> float:
    begin = time.perf_counter() + seconds / 5
    end = begin + seconds

    def repeat(run: Callable[[], Any]) -> int:
        runs = 0
        while time.perf_counter() < end:
            run()
            runs += time.perf_counter() > begin
        return runs

    with ThreadPoolExecutor(len(runners)) as threads:
        return BATCH * sum(threads.map(repeat, runners)) / seconds
