"""Reads the features that `partedvae extract` has written: one file, or a folder of parts.

Only the columns that a map needs are read, and of more than `MOST_POINTS` rows one of each of as many stretches is
kept, so that memory does not depend on the length of the file; but the arrays of an .npz are read as a whole. Of a
folder, one part at a time is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from partedvae.common.urls import is_url
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.explore.features.columns import find_columns
from partedvae.serving.explore.features.readers import checked, open_reader
from partedvae.serving.explore.features.table import FeatureTable, Rows
from partedvae.serving.explore.features.values import features_of_table
from partedvae.serving.extract.output.identity import PREFIX
from partedvae.serving.extract.output.output import Output, parse_output
from partedvae.serving.extract.output.shards import is_part, parse_part
from partedvae.serving.extract.sources.local_files import open_file

MOST_POINTS = 200_000
"""Points of a map."""


def read_features(given: str, most: int = MOST_POINTS) -> FeatureTable:
    """Read a file of features.

    Args:
        given: path or URL of the file, or of the folder of parts.
        most: points to keep; of more rows, the same ones are chosen each time.

    Raises:
        InvalidInputError: it does not exist, is damaged, or has neither u nor z.
        OSError: it cannot be read.
    """
    output = parse_output(given)
    paths, notes = _files_of(output)
    # Downloads are kept, which are temporary files.
    copies = [open_file(path) if is_url(path) else None for path in paths]
    with open_reader(paths[0], copies[0]) as reader:
        metadata = reader.metadata
        columns = find_columns(reader.names, metadata)
    if not columns.u and not columns.z:
        raise InvalidInputError(
            f"{given} has columns of neither u nor z; run 'partedvae extract' again with --include class,u,z"
        )
    counts = []
    for path, copy in zip(paths, copies, strict=True):
        with open_reader(path, copy) as reader:
            counts.append(reader.count())
    total = sum(counts)
    if not total:
        raise InvalidInputError(f"{given} has no rows")
    chosen = choose(total, most)
    if len(chosen) < total:
        notes.append(f"{len(chosen):,} of {total:,} rows are shown, chosen evenly")
    tables, rows = [], []
    first = 0
    for path, copy, start in zip(paths, copies, _starts(output, paths, metadata, counts), strict=True):
        offset = start - first
        with open_reader(path, copy) as reader:
            for table in reader.tables(columns):
                low, high = np.searchsorted(chosen, (first, first + len(table)))
                if low < high:
                    tables.append(table.take(pa.array(chosen[low:high] - first)))
                    rows.append(chosen[low:high] + offset)
                first += len(table)
    with checked(given):
        joined = pa.concat_tables(tables)
        return features_of_table(given, joined, np.concatenate(rows), columns, metadata, notes)


def choose(total: int, most: int) -> Rows:
    """Return at most `most` of `total` rows, ascending: a random one of each of as many equal stretches."""
    if total <= most:
        return np.arange(total, dtype=np.int64)
    ends = np.linspace(0, total, most + 1)
    within = np.random.default_rng(0).random(most)
    return (ends[:-1] + within * (np.diff(ends) - 1)).astype(np.int64)


def _files_of(output: Output) -> tuple[list[str], list[str]]:
    """Return the paths of the files of an output in the order of their rows, and remarks for the page."""
    if output.name is not None:
        if output.name not in output.folder.names():
            raise InvalidInputError(f"{output.text} does not exist; write it with 'partedvae extract'")
        return [output.folder.path(output.name)], []
    names = [name for name in output.folder.names() if is_part(name)]
    if not names:
        raise InvalidInputError(f"{output.text} is no folder of features, which 'partedvae extract' writes")
    parts = [parse_part(name) for name in names]
    of = {each.parts for each in parts}
    if len(of) > 1:
        raise InvalidInputError(f"{output.text} has parts of several extractions; delete those that are out of date")
    (expected,) = of
    missing = expected - len(parts)
    notes = [f"{missing:,} of {expected:,} parts are missing: the extraction is not complete"] if missing else []
    ordered = [name for _, name in sorted(zip((each.number for each in parts), names, strict=True))]
    return [output.folder.path(name) for name in ordered], notes


def _starts(output: Output, paths: Sequence[str], metadata: Mapping[str, str], counts: Sequence[int]) -> list[int]:
    """Return the row of the input that each file begins with."""
    rows_per_part = metadata.get(f"{PREFIX}rows_per_part")
    if output.name is None and rows_per_part is not None:
        return [parse_part(path.rpartition("/")[2]).number * int(rows_per_part) for path in paths]
    return [0, *np.cumsum(counts)[:-1].tolist()]
