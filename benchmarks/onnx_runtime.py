"""ONNX Runtime without a server: batch size, threads, sessions and session options, for each graph of a bundle.

python -m benchmarks.onnx_runtime --models demo/models --document docs/BENCHMARKS.md
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.machine import describe, machine
from benchmarks.serving.tables import replace_section, table
from partedvae.common.click_paths import LocalPath
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import Bundle, load_bundle
from partedvae.serving.bundle_files import versions_of
from partedvae.serving.errors import ServingError
from partedvae.serving.onnx.sessions import session_options
from partedvae.serving.onnx_runtime import ort

ROWS = (1, 4, 8, 16, 32, 64, 128, 256)
OPTION_ROWS = (1, 64)
"""Rows with which session options are compared."""
ROUNDS = 3
"""Variants take turns this many times, and the best of each counts: other work can only slow one down."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a graph is run."""

    threads: int = 1
    """Threads per run."""
    callers: int = 1
    """Threads that call `run` at the same time."""
    sessions: int = 1
    """Sessions, one for all callers or one for each."""
    change: str = ""
    """Name of the change of the server's session options, a key of `CHANGES`; empty for none."""


def _level(level: str) -> Callable[[ort.SessionOptions], None]:
    return lambda options: setattr(
        options, "graph_optimization_level", getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
    )


CHANGES: dict[str, Callable[[ort.SessionOptions], None]] = {
    "": lambda options: None,
    "graph optimizations: none": _level("DISABLE_ALL"),
    "graph optimizations: basic": _level("ENABLE_BASIC"),
    "graph optimizations: extended": _level("ENABLE_EXTENDED"),
    "denormals as zero": lambda o: o.add_session_config_entry("session.set_denormal_as_zero", "1"),
    "no memory arena": lambda options: setattr(options, "enable_cpu_mem_arena", False),
    "no memory pattern": lambda options: setattr(options, "enable_mem_pattern", False),
    "spinning": lambda options: options.add_session_config_entry("session.intra_op.allow_spinning", "1"),
    "parallel execution": lambda options: setattr(options, "execution_mode", ort.ExecutionMode.ORT_PARALLEL),
}
"""Changes of the server's session options by name."""


class Runner:
    """A graph that is run in one way."""

    def __init__(self, graph: Path, setup: Setup) -> None:
        """Open the sessions."""
        ort.set_default_logger_severity(3)  # An option that is set again is a warning.
        options = session_options(setup.threads)
        CHANGES[setup.change](options)
        self._sessions = [
            ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]) for _ in range(setup.sessions)
        ]
        self._callers = setup.callers

    def images_per_second(self, rows: int, seconds: float) -> float:
        """Run batches of `rows` random rows for a time."""
        feed = _inputs(self._sessions[0], rows)
        for session in self._sessions:
            session.run(None, feed)

        def repeat(caller: int) -> int:
            session, runs = self._sessions[caller % len(self._sessions)], 0
            while time.perf_counter() < end:
                session.run(None, feed)
                runs += 1
            return runs

        with ThreadPoolExecutor(self._callers) as threads:
            begin = time.perf_counter()
            end = begin + seconds
            runs = sum(threads.map(repeat, range(self._callers)))
            return rows * runs / (time.perf_counter() - begin)


def _inputs(session: ort.InferenceSession, rows: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        tensor.name: random.integers(256, size=(rows, *tensor.shape[1:]), dtype=np.uint8)
        if tensor.type == "tensor(uint8)"
        else random.normal(size=(rows, *tensor.shape[1:])).astype(np.float32)
        for tensor in session.get_inputs()
    }


_runner: Runner


def _open(graph: Path, setup: Setup) -> None:
    global _runner
    _runner = Runner(graph, setup)


def _run(rows: int, seconds: float) -> float:
    return _runner.images_per_second(rows, seconds)


def setups(cpus: int) -> dict[str, Setup]:
    """Return the ways to use one processor and all of them; the last is the server's."""
    several = {
        f"one caller, {cpus} threads": Setup(threads=cpus),
        "the same, spinning": Setup(threads=cpus, change="spinning"),
        f"{cpus} callers, {cpus} sessions": Setup(callers=cpus, sessions=cpus),
        f"{cpus} callers, one session": Setup(callers=cpus),
    }
    return {"one caller, one thread": Setup(), **(several if cpus > 1 else {})}


def sweep(graph: Path, cpus: int, seconds: float) -> list[list[str]]:
    """Return a row of images per second for each batch size."""
    runners = [Runner(graph, setup) for setup in setups(cpus).values()]
    lines = []
    for rows in ROWS:
        rounds = [[runner.images_per_second(rows, seconds) for runner in runners] for _ in range(ROUNDS)]
        lines.append([str(rows), *(f"{max(rates):,.0f}" for rates in zip(*rounds, strict=True))])
    return lines


def compare_options(graph: Path, seconds: float) -> Iterator[list[str]]:
    """Yield a row for each change of the session options: images per second as a share of those of the server's.

    Each has a process of its own, because some options hold for the whole process.
    """
    changes = [change for change in CHANGES if change != "spinning"]  # With one thread, there is nothing to wait for.
    workers = {
        change: ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_open, initargs=(graph, Setup(change=change))
        )
        for change in changes
    }
    try:
        rates = dict.fromkeys(((change, rows) for change in workers for rows in OPTION_ROWS), 0.0)
        for _ in range(ROUNDS):
            for change, rows in rates:
                rate = workers[change].submit(_run, rows, seconds).result()
                rates[change, rows] = max(rates[change, rows], rate)
    finally:
        for worker in workers.values():
            worker.shutdown()
    for change in changes[1:]:
        yield [change, *(f"{rates[change, rows] / rates['', rows]:.2f}" for rows in OPTION_ROWS)]


def report(bundle: Bundle, cpus: int, seconds: float) -> str:
    """Measure all graphs, and return the results in Markdown."""
    graphs = {"encoder": bundle.encoder_path, "encoder, int8": bundle.int8_encoder_path, "decoder": bundle.decoder_path}
    parts = [describe(machine())]
    for name, path in graphs.items():
        if path is not None:
            lines = sweep(path, cpus, seconds)
            parts.append(table([f"images/s of the {name}, rows", *setups(cpus)], lines))
    changes: dict[str, list[str]] = {}
    header = ["session option, one thread"]
    for name in ("encoder", "decoder"):
        path = graphs[name]
        assert path is not None
        header += [f"{name}, {rows} row{'s' * (rows > 1)}" for rows in OPTION_ROWS]
        for change, *shares in compare_options(path, seconds):
            changes.setdefault(change, [change]).extend(shares)
    parts.append(table(header, list(changes.values())))
    return "\n\n".join(parts)


@click.command()
@click.option(
    "--models",
    type=LocalPath(path_type=Path),
    default=Path("demo/models"),
    show_default=True,
    help="Folder that holds the models.",
)
@click.option("--name", default="mnist", show_default=True, help="Name of the model.")
@click.option(
    "--seconds", type=click.FloatRange(min=0.01), default=0.2, show_default=True, help="Per variant and round."
)
@click.option("--document", type=LocalPath(path_type=Path), help="Markdown file to update.")
def main(models: Path, name: str, seconds: float, document: Path | None) -> None:
    """Measure the graphs of a model in ONNX Runtime alone. Run nothing else meanwhile."""
    versions = versions_of(models / name)
    if not versions:
        raise click.ClickException(
            f"{models / name} contains no version of a model; 'make demo' writes one to demo/models"
        )
    try:
        text = report(load_bundle(models.resolve() / name / str(versions[-1])), available_cpus(), seconds)
        click.echo(text)
        if document:
            replace_section(document, "onnx-runtime", text)
    except (ServingError, BenchmarkError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
