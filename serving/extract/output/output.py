"""The OUTPUT of an extraction: one file, or a folder of parts; and what is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from partedvae.common.file_names import in_one_line
from partedvae.common.urls import is_url, without_file_scheme
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.output.destination import Destination, LocalFolder, open_destination
from partedvae.serving.extract.output.feature_files import COUNTS, WRITERS, Footer, read_footer
from partedvae.serving.extract.output.parts import PartFiles
from partedvae.serving.extract.output.shards import is_part
from partedvae.serving.extract.summary import Counts, total

FORMATS = ("parquet", "arrow")
"""Formats of a folder of parts."""
READERS = 16
"""Footers that are read at a time: at a URL each is several requests."""
PARTS_OF_A_FILE = ".arrow"
"""Suffix of the parts that one file is made from: they are fast to write, and read once."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the rows go."""

    text: str
    """As in the command."""
    folder: Destination
    """Folder of the file, or of the parts."""
    name: str | None
    """Name of the file; None for a folder of parts."""
    format: str
    """"parquet", "arrow", "csv" or "npz"."""

    @property
    def parts(self) -> Destination:
        """Folder of the parts: a hidden one beside the file, until it is complete."""
        return self.folder if self.name is None else self.folder.folder(f".{self.name}.parts")

    @property
    def part_suffix(self) -> str:
        """Suffix of the parts."""
        return f".{self.format}" if self.name is None else PARTS_OF_A_FILE

    @property
    def holds_vectors(self) -> bool:
        """Whether the format has arrays of vectors, however the columns of other formats are written."""
        return self.format == "npz"


def parse_output(text: str, parts_format: str | None = None) -> Output:
    """Return the output of a command.

    Args:
        text: a path or a URL. One that ends in .parquet, .arrow, .npz or .csv is a file, another one a folder.
        parts_format: one of `FORMATS`, for a folder.

    Raises:
        InvalidInputError: the format is not that of the file; or a file is a folder, or a folder a file.
    """
    suffix = PurePosixPath(text).suffix.lower()
    if suffix not in WRITERS or text.endswith("/"):
        folder = open_destination(text)
        if isinstance(folder, LocalFolder) and folder.root.exists() and not folder.root.is_dir():
            raise InvalidInputError(
                f"{text} is a file; a single file of features ends in {', '.join(WRITERS)}, other outputs are folders"
            )
        return Output(text=text, folder=folder, name=None, format=parts_format or "parquet")
    if parts_format is not None and f".{parts_format}" != suffix:
        raise InvalidInputError(
            f"--format {parts_format} is for a folder of parts; {text} is one file, of {suffix[1:]}"
        )
    path = Path(without_file_scheme(text))
    if is_url(without_file_scheme(text)):
        parent, _, name = text.rpartition("/")
        return Output(text=text, folder=open_destination(parent), name=name, format=suffix[1:])
    if path.is_dir():
        raise InvalidInputError(f"{text} is a folder; end it with / to write parts into it")
    if path.exists() and not path.is_file():  # Opening a pipe would wait for its other end.
        raise InvalidInputError(f"{text} is no regular file; choose another --output")
    return Output(text=text, folder=LocalFolder(path.parent), name=path.name, format=suffix[1:])


def check_not_input(output: Output, given: str) -> None:
    """Refuse an output that would replace the file that is read.

    Args:
        output: where the rows go.
        given: the INPUT.

    Raises:
        InvalidInputError: the file, or a part of the folder, is the INPUT.
    """
    given = without_file_scheme(given)
    name = output.name
    if name is None:
        name = given.rpartition("/")[2]
        if not is_part(name):
            return
    replaced = output.folder.path(name)
    same = given == replaced
    if isinstance(output.folder, LocalFolder):
        with suppress(OSError):  # One of them does not exist.
            same = Path(given).samefile(replaced)
    if same:
        raise InvalidInputError(f"{given} is the INPUT, which {output.text} would replace; choose another --output")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is at an output before an extraction."""

    complete: Counts | None = None
    """Counts of the same extraction, if it is complete."""
    done: Mapping[int, Counts] = field(default_factory=dict)
    """Counts of the parts that need not be done again."""
    stale: Sequence[str] = ()
    """Names of parts to delete before the extraction."""


def inspect(
    output: Output, files: PartFiles, *, resume: bool | None, overwrite: bool, retry_errors: bool = False
) -> Found:
    """Find out what an extraction has to do. Changes nothing.

    Args:
        output: where it writes.
        files: its parts.
        resume: whether there must be something to resume; False starts anew, None resumes what can be.
        overwrite: whether other features may be replaced.
        retry_errors: whether parts with unreadable images are done again, also of a complete output.

    Raises:
        InvalidInputError: there is something else, or nothing to resume; the message has the remedy.
        OSError: it cannot be read.
    """
    names = output.parts.names()
    if output.name is None:
        _check_folder(output, names)
    present = [name for name in names if is_part(name)]
    footers = _footers(output.parts, present)
    counted = {
        number: files.counts_in(number, footers[name])
        for number, name in enumerate(files.plan.names())
        if name in footers
    }
    done = {number: counts for number, counts in counted.items() if counts is not None}
    others = set(present) - set(files.plan.names())
    complete = None if output.name is None and others else _complete(output, files, done)
    retried = retry_errors and complete is not None and complete.unreadable > 0
    if complete is not None and resume is not False and not retried:
        return Found(complete=complete, stale=present if output.name is not None else ())
    if not overwrite and not retried:
        _check_replaceable(
            output, files, footers, finished=complete is not None, resuming=resume is True and bool(done)
        )
    if resume is False:
        done = {}
    elif resume and not done and not retried:
        raise InvalidInputError(f"there is nothing to resume at {output.text}; leave out --resume to start")
    if retry_errors:
        done = {number: counts for number, counts in done.items() if not counts.unreadable}
    kept = {files.plan.name(number) for number in done}
    return Found(done=done, stale=[name for name in present if name not in kept])


def _check_folder(output: Output, names: Sequence[str]) -> None:
    """Refuse a folder of other files, which a reader of the features would take for parts."""
    others = [name for name in names if not is_part(name) and not name.startswith((".", "_"))]
    if others:
        raise InvalidInputError(
            f"{output.text} has other files than features ({in_one_line(others[0])}); choose another --output, such as "
            f"{output.text.rstrip('/')}/features"
        )


def _footers(parts: Destination, names: Sequence[str]) -> dict[str, Footer]:
    """Return the footers of parts, but of those that are damaged or gone."""

    def read(name: str) -> Footer | None:
        try:
            return parts.read(name, partial(read_footer, PurePosixPath(name).suffix))
        except FileNotFoundError:  # Another process has ended, and made one file of its parts.
            return None

    with ThreadPoolExecutor(READERS, thread_name_prefix="partedvae-footers") as pool:
        found = zip(names, pool.map(read, names), strict=True)
        return {name: footer for name, footer in found if footer is not None}


def _complete(output: Output, files: PartFiles, done: Mapping[int, Counts]) -> Counts | None:
    """Return the counts of the same extraction, if it is complete."""
    if output.name is None:
        return total(done[number] for number in sorted(done)) if len(done) == len(files.plan) else None
    footer = _finished(output)
    if footer is None or files.identity.differences(footer.metadata) or COUNTS not in footer.metadata:
        return None
    if footer.rows != files.plan.rows:
        return None
    return Counts.from_json(footer.metadata[COUNTS])


def _finished(output: Output) -> Footer | None:
    assert output.name is not None
    try:
        return output.folder.read(output.name, partial(read_footer, f".{output.format}"))
    except FileNotFoundError:
        return None


def _check_replaceable(
    output: Output, files: PartFiles, footers: Mapping[str, Footer], *, finished: bool, resuming: bool
) -> None:
    """Refuse to replace features that are not those of an unfinished extraction with the same options."""
    replace = "or pass --overwrite to replace it"
    if finished:
        raise InvalidInputError(f"{output.text} is complete; choose another --output, {replace}")
    if output.name is not None and output.name in output.folder.names() and not resuming:
        footer = _finished(output)
        reasons = files.identity.differences(footer.metadata) if footer else []
        if footer and footer.rows != files.plan.rows and not reasons:
            reasons = [f"it has {footer.rows:,} rows instead of {files.plan.rows:,}"]
        reason = f": {'; '.join(reasons)}" if reasons else ""
        raise InvalidInputError(f"{output.text} exists{reason}; choose another --output, {replace}")
    for footer in footers.values():
        differences = files.identity.differences(footer.metadata)
        if differences:
            raise InvalidInputError(
                f"{output.text} has parts of another extraction: {'; '.join(differences)}; pass the same, choose "
                f"another --output, {replace}"
            )
