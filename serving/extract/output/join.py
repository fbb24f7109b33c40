"""Makes one file of the parts of an extraction."""

from __future__ import annotations

from partedvae.serving.errors import ServingError
from partedvae.serving.extract.output.feature_files import COUNTS, WRITERS, read_tables
from partedvae.serving.extract.output.output import Output
from partedvae.serving.extract.output.parts import PartFiles
from partedvae.serving.extract.summary import Counts


def join(output: Output, files: PartFiles, counts: Counts) -> None:
    """Write the file, which appears whole. The parts stay.

    Args:
        output: a file.
        files: its parts, which are all there.
        counts: of all of them.

    Raises:
        ServingError: the parts have other rows than were counted in them.
        OSError: it cannot be written, or a part cannot be read.
    """
    assert output.name is not None
    with output.folder.create(output.name) as path:
        writer = WRITERS[f".{output.format}"](path, files.layout, files.identity.texts)
        rows = 0
        try:
            for name in files.plan.names():
                with files.destination.open(name) as part:
                    for table in read_tables(files.plan.suffix, part):
                        writer.write(table)
                        rows += len(table)
            if rows != counts.images:
                raise ServingError(
                    f"{output.text} would have {rows:,} rows instead of {counts.images:,}: its parts were changed "
                    "while it was written; run the command again"
                )
            writer.finish({COUNTS: counts.to_json()})
        finally:
            writer.close()
