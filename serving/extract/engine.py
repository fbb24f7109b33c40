"""The engine of one process: reads, computes and writes at the same time, also from one part to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from partedvae.serving.extract.extractors import Extractor
from partedvae.serving.extract.layout import Rows
from partedvae.serving.extract.output.parts import PartFiles, PartWriter
from partedvae.serving.extract.sources.source import Job, Source
from partedvae.serving.extract.summary import Counts

AHEAD = 4
"""Batches of results that wait to be written."""
FINISHING = 2
"""Parts that are compressed, flushed to disk or put at a URL at a time, while the next one is filled."""

Report = Callable[[Counts], None]


class Engine(Protocol):
    """Writes parts, each by `partedvae.serving.extract.output.parts`."""

    def __call__(self, source: Source, files: PartFiles, missing: Sequence[int], report: Report) -> None:
        """Write the missing parts.

        Args:
            source: the images.
            files: where the parts are written.
            missing: numbers of the parts, ascending.
            report: called with the counts of rows when they are computed; what it raises ends the extraction.
        """


class LocalEngine:
    """Writes the parts in order, in this process."""

    def __init__(self, extractor: Extractor, batch_size: int) -> None:
        """Create an engine.

        Args:
            extractor: computes the features, here or on a server.
            batch_size: most images of a batch, which is read, computed and written at once.
        """
        self._extractor = extractor
        self._batch_size = extractor.batch_size(batch_size)

    def __call__(self, source: Source, files: PartFiles, missing: Sequence[int], report: Report) -> None:
        """Write the missing parts; see `Engine`."""
        with _Writing(files, missing) as writing:
            jobs = self._jobs(source, files, missing)
            for rows in self._extractor.rows(jobs, files.layout.outputs, self._batch_size):
                writing.put(rows)
                report(Counts.of(rows))
            writing.finish()

    def _jobs(self, source: Source, files: PartFiles, missing: Sequence[int]) -> Iterator[Job]:
        """Yield the jobs of all parts as one sequence, so that the next part is read before this one is written."""
        for number in missing:
            yield from source.part(*files.plan.range_of(number)).jobs(self._batch_size)


class _Writing:
    """Divides rows into parts and writes them in a thread of its own; others compress parts and put them in place."""

    def __init__(self, files: PartFiles, missing: Sequence[int]) -> None:
        self._files = files
        self._missing = deque(missing)
        self._writer: PartWriter | None = None
        self._failed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="partedvae-write")
        self._ahead: deque[Future[None]] = deque()
        self._finishers = ThreadPoolExecutor(FINISHING, thread_name_prefix="partedvae-finish")
        self._finishing: deque[Future[None]] = deque()

    def __enter__(self) -> _Writing:
        return self

    def put(self, rows: Rows) -> None:
        """Write rows, of one part, after those before; waits where `AHEAD` are not written, and raises their errors."""
        self._ahead.append(self._pool.submit(self._write, rows))
        while len(self._ahead) > AHEAD:
            self._ahead.popleft().result()

    def finish(self) -> None:
        """Wait until all is written."""
        for pending in (self._ahead, self._finishing):
            while pending:
                pending.popleft().result()

    def _write(self, rows: Rows) -> None:
        if self._failed:  # The rows before these are missing, so that this part cannot be finished any more.
            return
        try:
            if self._writer is None:
                self._writer = PartWriter(self._files, self._missing[0])
            self._writer.write(rows)
            if self._writer.rows >= self._files.plan.rows_of(self._missing[0]):
                self._finishing.append(self._finishers.submit(_finish, self._writer))
                self._writer = None
                self._missing.popleft()
                while len(self._finishing) > FINISHING:
                    self._finishing.popleft().result()
        except BaseException:
            self._failed = True
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A part of which all is computed is finished, also when the extraction ends here.
        self._pool.shutdown()
        self._finishers.shutdown()
        if error is not None and self._writer is not None:
            self._writer.abort(error)


def _finish(writer: PartWriter) -> None:
    try:
        writer.finish()
    except BaseException as error:
        writer.abort(error)
        raise
