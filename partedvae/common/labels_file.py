"""labels.csv of a folder of images, read and changed label by label while others may change it too.

Each change reads the file again and replaces it as a whole, with one value changed: other rows and columns, their
order, the separator, the encoding and the line breaks stay as they are. Rows of files that are not in the folder are
kept, and ignored. Training reads the same file more strictly (`partedvae.training.data.labels_csv`).
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from partedvae.common.atomic_write import atomic_write
from partedvae.common.column_names import OWN, OWN_Z
from partedvae.common.data_error import DataError
from partedvae.common.file_names import printable
from partedvae.common.folder_files import FolderFiles
from partedvae.common.label_table import (
    FILE_COLUMN,
    SPLIT_COLUMN,
    TABLE,
    Cells,
    check_header,
    check_text,
    factors_of,
    in_order,
    read_cells,
)
from partedvae.common.missing_values import CLASSES, HEADER, MARKERS, clear_missing, read_named_classes
from partedvae.common.tables import Record, Records, Table, normalised, parse_csv, read_table_file, table_of
from partedvae.common.text_files import encode_like

ATTEMPTS = 20
"""How often a change is tried while others change the file."""
_LINE_BREAK = re.compile(r"(\r\n|\n|\r)\Z")


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of a folder at one time."""

    factors: tuple[str, ...] = ()
    """Columns of classes; none without the file."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Known classes by factor, by file; files without any are left out."""
    tests: frozenset[str] = frozenset()
    """Files whose split is test."""

    def class_of(self, file: str, factor: str) -> str:
        """Return the class of an image; empty if it is not known."""
        return self.values.get(file, {}).get(factor, "")

    def classes(self, factor: str) -> tuple[str, ...]:
        """Return the classes of a factor that some image has, in the order of training."""
        return in_order(self.counts(factor))

    def counts(self, factor: str) -> Counter[str]:
        """Return the number of images of each class of a factor."""
        return Counter(row[factor] for row in self.values.values() if factor in row)

    def labelled(self, factor: str | None = None) -> frozenset[str]:
        """Return the files with a class of a factor; with one of any factor for None."""
        return frozenset(file for file, row in self.values.items() if factor is None or factor in row)


class LabelsFile:
    """`<folder>/labels.csv`. Can be used from several threads; processes of this machine take turns."""

    def __init__(self, folder: Path, names: Sequence[str], path: Path | None = None) -> None:
        """Name the file, which need not exist.

        Args:
            folder: the folder.
            names: its image files, from `partedvae.common.image_folder.find_images`.
            path: the file, if it is another one than the folder's.
        """
        self.path = folder / TABLE if path is None else path
        self._folder = folder
        self._files = FolderFiles(folder, names)
        self._lock = threading.Lock()

    def read(self) -> Labels:
        """Return the labels; there are none without the file.

        Raises:
            DataError: the file is invalid; the message has the line.
        """
        return self._parsed(self._content()).labels

    def write(self, file: str, factor: str, value: str, before: str | None = None) -> Labels:
        """Change the class of an image, and return all labels as they are then.

        Args:
            file: name of the image.
            factor: the column, which is added where there is none; so is the file.
            value: the class; empty for not known.
            before: the class that is replaced; nothing is changed if the image has another one by now. None for any.

        Raises:
            DataError: the file, or a name, is invalid.
            OSError: it cannot be written; it is unchanged then.
        """
        factor, value = normalised(factor), normalised(value)
        with self._lock, _taking_turns(self.path.parent):
            for _ in range(ATTEMPTS):
                state = _state(self.path)
                content = self._content()
                parsed = self._parsed(content)
                now = parsed.labels.class_of(file, factor)
                if now == value or (before is not None and now != before):
                    return parsed.labels
                self.check(parsed.labels, factor, value)
                changed = encode_like(_changed(parsed, file, factor, value), content)
                result = self._parsed(changed).labels
                if self._replace(changed, state):
                    return result
        raise DataError(f"{self.path} is changed by another program all the time; close it there, and try again")

    def _content(self) -> bytes:
        try:
            return read_table_file(self.path)
        except FileNotFoundError:
            return b""

    def _parsed(self, content: bytes) -> _Parsed:
        records = parse_csv(self.path, content, FILE_COLUMN)
        table = table_of(records)
        if not table.header:
            return _Parsed(records=records, table=table, cells=Cells(values={}, lines={}), labels=Labels())
        check_header(self.path, table)
        cells = read_cells(self.path, table, self._files, others=True)
        factors = factors_of(table.header)
        # Of any factor: one that a visitor is about to add is in no row yet.
        clear_missing(cells.values, factors, read_named_classes(self._folder))
        known = {file: {name: row[name] for name in factors if row[name]} for file, row in cells.values.items()}
        labels = Labels(
            factors=factors,
            values={file: row for file, row in known.items() if row},
            tests=frozenset(file for file, row in cells.values.items() if row.get(SPLIT_COLUMN) == "test"),
        )
        return _Parsed(records=records, table=table, cells=cells, labels=labels)

    def check(self, labels: Labels, factor: str, value: str) -> None:
        """Check names that training would refuse, or read in another way.

        Args:
            labels: the labels of the folder.
            factor: the column; other ones than those of the labels are checked too.
            value: the class.

        Raises:
            DataError: one of them cannot be used.
        """
        check_text(value, "the class")
        if factor not in labels.factors:
            check_text(factor, "the factor")
            if not factor or factor.lower() in (FILE_COLUMN, SPLIT_COLUMN) or factor in OWN or OWN_Z.fullmatch(factor):
                raise DataError(f"a factor cannot be called {factor!r}; choose another name")
        if value.lower() in MARKERS:
            named = read_named_classes(self._folder)
            if (factor, value.lower()) not in named:
                raise DataError(
                    f"{value!r} counts as not known in {self.path.name}; choose another name for the class, or name it "
                    f"in {CLASSES} (first line '{','.join(HEADER)}', then '{factor},{value}')"
                )

    def _replace(self, content: bytes, before: object) -> bool:
        """Replace the file unless another program has changed it; return whether it was replaced."""
        with suppress(_ChangedError):
            with atomic_write(self.path) as temporary:
                temporary.write_bytes(content)
                if self.path.exists():
                    shutil.copymode(self.path, temporary)
                if _state(self.path) != before:
                    raise _ChangedError
            return True
        return False


class _ChangedError(Exception):
    """Another program has changed the file since it was read."""


@dataclass(frozen=True, kw_only=True)
class _Parsed:
    """The file as it was read."""

    records: Records
    table: Table
    cells: Cells
    labels: Labels


def _changed(parsed: _Parsed, file: str, factor: str, value: str) -> str:
    """Return the text of the file with another value."""
    separator, records = parsed.records.separator, list(parsed.records.records)
    names = list(parsed.table.header)
    if not names:
        return "".join(_line(row, separator, "\n") for row in ([FILE_COLUMN, factor], [printable(file), value]))
    header = next(number for number, record in enumerate(records) if record.values)
    line_break = _line_break(records[header].text) or "\n"
    texts = [record.text for record in records]
    if factor not in names:
        for number, record in enumerate(records):
            if record.values:
                texts[number] = _widened(record, len(names), factor if number == header else "", separator, line_break)
        names.append(factor)
    column = names.index(factor)
    if file in parsed.cells.lines:
        number = next(k for k, record in enumerate(records) if record.line == parsed.cells.lines[file])
        row = [*records[number].values, *[""] * (len(names) - len(records[number].values))]
        row[column] = value
        texts[number] = _line(row, separator, _line_break(texts[number]))
    elif value:
        row = [""] * len(names)
        row[names.index(FILE_COLUMN)], row[column] = printable(file), value
        last = max(number for number, record in enumerate(records) if record.values)
        if not _line_break(texts[last]):
            texts[last] += line_break
        texts.insert(last + 1, _line(row, separator, line_break))
    return "".join(texts)


def _widened(record: Record, column: int, value: str, separator: str, line_break: str) -> str:
    """Return the text of a row with a further column, which may be one of the blank ones behind the table."""
    if len(record.values) > column:
        row = list(record.values)
        row[column] = value
        return _line(row, separator, _line_break(record.text)) if value else record.text
    end = _line_break(record.text)
    return record.text.removesuffix(end) + _line(["", value], separator, "") + end


def _line(row: Sequence[str], separator: str, line_break: str) -> str:
    """Return a row as text."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator="\r\n").writerow(row)
    return text.getvalue().removesuffix("\r\n") + line_break


def _line_break(text: str) -> str:
    """Return the line break at the end of a text; empty if there is none."""
    found = _LINE_BREAK.search(text)
    return found[0] if found else ""


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what changes with the content of a file; None if there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


@contextmanager
def _taking_turns(folder: Path) -> Iterator[None]:
    """Let one process at a time change a file of a folder, where the system can; the lock leaves no file behind."""
    if os.name != "posix":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # A file system without locks, where `_replace` notices most changes.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
