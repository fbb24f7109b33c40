"""The engine of many machines: actors of Ray Data write the parts, each by itself.

The data set of Ray has one row per missing part, which says what is in it. An actor that dies is replaced, and its part
is done again under the same name, so that retries neither lose nor double rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from partedvae.common.cpus import available_cpus
from partedvae.serving.errors import ServingError
from partedvae.serving.extract.engine import Report
from partedvae.serving.extract.options.engine import EngineOptions
from partedvae.serving.extract.output.destination import delete_partial
from partedvae.serving.extract.output.parts import PartFiles
from partedvae.serving.extract.output.shards import PART_PREFIX
from partedvae.serving.extract.ray.cluster import cluster_cpus, ray, ray_session
from partedvae.serving.extract.ray.worker import PartWorker, WorkerSettings, task
from partedvae.serving.extract.ray.worker_model import WorkerModel
from partedvae.serving.extract.sources.source import Source
from partedvae.serving.extract.summary import Counts

Say = Callable[[str], None]


class RayEngine:
    """Writes the parts in any order, in the workers of Ray."""

    def __init__(self, model: WorkerModel, batch_size: int, options: EngineOptions, say: Say) -> None:
        """Create an engine.

        Args:
            model: opened by each worker.
            batch_size: images per run of the encoder, or per request.
            options: where the workers run.
            say: receives lines on workers that died.
        """
        self._model = model
        self._batch_size = batch_size
        self._options = options
        self._say = say

    def __call__(self, source: Source, files: PartFiles, missing: Sequence[int], report: Report) -> None:
        """Write the missing parts; see `partedvae.serving.extract.engine.Engine`.

        Raises:
            ServingError: a worker failed, or reaches other files than this process.
            InvalidInputError: there is no cluster at the address.
        """
        settings = WorkerSettings(
            files=files,
            model=self._model,
            batch_size=self._batch_size,
            cpus=self._options.cpus_per_actor,
            folder=str(Path.cwd()),
            code_version=version("partedvae"),
        )
        with ray_session(self._options.ray_address, self._local_cpus(len(missing)), self._say):
            checks = Checks(source, files)
            for number, counts, process in self._results(source, files, missing, settings):
                checks.check(number, counts, process)
                report(counts)
        # Of workers that died; all parts are there, so that nobody writes any more.
        delete_partial(files.destination, PART_PREFIX)

    def _results(
        self, source: Source, files: PartFiles, missing: Sequence[int], settings: WorkerSettings
    ) -> Iterator[tuple[int, Counts, str]]:
        """Yield number, counts and process of each part when it is written."""
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # A block per part, so that an actor that dies has one to do again.
        tasks = ray.data.from_items(
            [task(number, source.part(*files.plan.range_of(number))) for number in missing],
            override_num_blocks=len(missing),
        )
        # A part at a time: its reading, computing and writing overlap, and a second one could not be given to others.
        pool = ray.data.ActorPoolStrategy(size=self._workers(len(missing)), max_tasks_in_flight_per_actor=1)
        results = tasks.map_batches(
            PartWorker,
            fn_constructor_args=(settings,),
            batch_size=1,
            batch_format="pyarrow",
            compute=pool,
            num_cpus=settings.cpus,
            num_gpus=1 if self._model.needs_gpu else 0,
        )
        try:
            for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from map(_result, cast(pa.Table, batch).to_pylist())
        except ray.exceptions.RayError as error:
            raise ServingError(f"Ray has ended the extraction: {_reason(error)}") from error

    def _workers(self, parts: int) -> int:
        cpus = self._options.cpus_per_actor
        machines = cluster_cpus()
        if not any(machine >= cpus for machine in machines):
            self._say(f"waiting: no machine of the cluster has {cpus} processors now (--cpus-per-actor)")
        fitting = sum(machine // cpus for machine in machines)
        return max(1, min(parts, self._options.actors or fitting))

    def _local_cpus(self, parts: int) -> int:
        """Return the processors of a Ray of this machine; more workers than there are processors may be asked for."""
        cpus = self._options.cpus_per_actor
        workers = self._options.actors or max(1, available_cpus() // cpus)
        return min(parts, workers) * cpus


class Checks:
    """Detects workers that reach other files than the command, before their parts are taken for good."""

    def __init__(self, source: Source, files: PartFiles) -> None:
        self._source = source
        self._files = files
        self._seen: set[str] = set()

    def check(self, number: int, counts: Counts, process: str) -> None:
        """Check the first part of each process, and each one of which no image could be read.

        Raises:
            ServingError: the part is not here, or an image is readable here.
        """
        if process not in self._seen:
            self._seen.add(process)
            self._check_output(number, process)
        if counts.images and counts.unreadable == counts.images:
            self._check_input(number, counts, process)

    def _check_output(self, number: int, process: str) -> None:
        if self._files.counts_of(number) is None:
            name = self._files.destination.path(self._files.plan.name(number))
            raise ServingError(
                f"the worker {process} has written {name}, which is not here: with several machines --output must be "
                "a URL, such as s3://bucket/features, or a folder that all of them share"
            )

    def _check_input(self, number: int, counts: Counts, process: str) -> None:
        first, _ = self._files.plan.range_of(number)
        job = next(iter(self._source.part(first, first + 1).jobs(1)))
        if job(self._files.layout.manifest.image).errors[0] is None:
            self._files.destination.delete(self._files.plan.name(number))
            raise ServingError(
                f"the worker {process} could not read any of {counts.images:,} images of which at least the first is "
                f"readable here ({counts.examples[0]}): with several machines INPUT must be a URL, or in a folder that "
                "all of them share"
            )


def _result(row: dict[str, Any]) -> tuple[int, Counts, str]:
    if row["error"] is not None:
        raise ServingError(row["error"])
    return int(row["number"]), Counts.from_json(row["counts"]), row["process"]


def _reason(error: BaseException) -> str:
    """Return the cause of an error of Ray in one line, without the tracebacks that it repeats."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
