"""One part of an extraction: written whole under its own name, whoever writes it and however often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from partedvae.serving.errors import ServingError
from partedvae.serving.extract.extractors import Extractor
from partedvae.serving.extract.layout import Layout, Rows
from partedvae.serving.extract.output.destination import Destination
from partedvae.serving.extract.output.feature_files import COUNTS, WRITERS, FeatureWriter, Footer, read_footer
from partedvae.serving.extract.output.identity import PREFIX, Identity
from partedvae.serving.extract.output.shards import Plan
from partedvae.serving.extract.output.tables import table_of
from partedvae.serving.extract.sources.source import Part
from partedvae.serving.extract.summary import Counts

PART = f"{PREFIX}part"
"""Key of the number of a part, in its footer."""


@dataclass(frozen=True, kw_only=True)
class PartFiles:
    """Where the parts of an extraction are, and what is in them. Can be pickled."""

    destination: Destination
    plan: Plan
    layout: Layout
    identity: Identity

    def counts_of(self, number: int) -> Counts | None:
        """Return the counts of a part; None if it is not there, unfinished, or of another extraction."""
        name = self.plan.name(number)
        try:
            footer = self.destination.read(name, partial(read_footer, self.plan.suffix))
        except FileNotFoundError:
            return None
        return None if footer is None else self.counts_in(number, footer)

    def counts_in(self, number: int, footer: Footer) -> Counts | None:
        """Return the counts of a part from its footer; None if it is of another extraction."""
        if self.identity.differences(footer.metadata) or footer.rows != self.plan.rows_of(number):
            return None
        return Counts.from_json(footer.metadata[COUNTS])


class PartWriter:
    """Writes the rows of one part; the part appears when it is finished."""

    def __init__(self, files: PartFiles, number: int) -> None:
        """Create the part aside; errors are those of `Destination.create`."""
        self._files = files
        self._number = number
        self._counts = Counts()
        self._stack = ExitStack()
        self._schema = files.layout.schema()
        self._writer: FeatureWriter | None = None

    @property
    def rows(self) -> int:
        """Number of rows so far."""
        return self._counts.images

    def write(self, rows: Rows) -> None:
        """Append rows; errors are those of `Destination.create`."""
        if self._writer is None:
            self._writer = self._open()
        self._counts.add(Counts.of(rows))
        self._writer.write(table_of(rows, self._files.layout, self._schema))

    def _open(self) -> FeatureWriter:
        plan = self._files.plan
        path = self._stack.enter_context(self._files.destination.create(plan.name(self._number)))
        metadata: Mapping[str, str] = {**self._files.identity.texts, PART: str(self._number)}
        writer = WRITERS[plan.suffix](path, self._files.layout, metadata)
        self._stack.callback(writer.close)
        return writer

    def finish(self) -> Counts:
        """Complete the part and return its counts.

        Raises:
            ServingError: it has more or fewer rows than planned.
            OSError: it cannot be written.
        """
        expected = self._files.plan.rows_of(self._number)
        if self.rows != expected or self._writer is None:
            raise ServingError(
                f"part {self._number} has {self.rows:,} rows instead of {expected:,}: the input changed while it was "
                "read; run the command again"
            )
        self._writer.finish({COUNTS: self._counts.to_json()})
        self._stack.close()
        return self._counts

    def abort(self, error: BaseException) -> None:
        """Delete what was written aside, unless the part is finished."""
        self._stack.__exit__(type(error), error, error.__traceback__)


def write_part(files: PartFiles, number: int, part: Part, extractor: Extractor, batch_size: int = 256) -> Counts:
    """Extract one part: the same rows under the same name, in whichever process, and also when it is there already.

    Args:
        files: where to write it.
        number: of the part.
        part: its rows, `source.part(*files.plan.range_of(number))`.
        extractor: computes the features.
        batch_size: most images of a batch.

    Returns:
        What was counted in it, which is in its footer as well.

    Raises:
        ServingError: the rows are not those that were planned.
        PartedVAEError: the server failed.
        OSError: the part cannot be written; the error names it.
    """
    size = extractor.batch_size(batch_size)
    return write_rows(files, number, extractor.rows(part.jobs(size), files.layout.outputs, size))


def write_rows(files: PartFiles, number: int, rows: Iterable[Rows]) -> Counts:
    """Write one part of rows that are computed already; see `write_part`."""
    writer = PartWriter(files, number)
    try:
        for some in rows:
            writer.write(some)
        return writer.finish()
    except BaseException as error:
        writer.abort(error)
        raise
