"""The image files in a folder and its subfolders, and what is left out there, by reason.

Training and batch extraction read the same files of a folder:

1. Regular files whose ending is one of `image_endings`, upper or lower case.
2. Hidden files and folders (names that begin with a dot, such as `._1.png`) are left out, and so are the folders that
   systems create beside images (`SYSTEM_FOLDERS`). The folder itself may be hidden.
3. Links are followed. A folder that several names lead to is read once, by its own name where that is in the folder; a
   link to the folder itself or to one above it is left out.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from stat import S_ISDIR, S_ISREG

from partedvae.common.file_names import in_one_line
from partedvae.common.retry import Retries

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
HEIC_ENDINGS = (".heic", ".heif", ".hif")
"""Read where the package pillow-heif is installed."""
SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
"""Copies in archives of macOS, thumbnails of Synology, deleted files, and what a check of the disk found."""
TABLES = frozenset({"labels.csv", "classes.csv"})
"""Tables of a data set in its folder, which are not counted as left out."""

EXAMPLES = 3
"""Names shown per reason."""
REASONS = 8
"""Reasons shown."""


@dataclass
class LeftOut:
    """Files and folders that are not read: how many by reason, and the first of them."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, path: str) -> None:
        """Count a file or folder.

        Args:
            reason: completes "N …", such as "hidden".
            path: its path.
        """
        self.counts[reason] = self.counts.get(reason, 0) + 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(in_one_line(path))

    def lines(self) -> list[str]:
        """Return one line per reason, the most frequent first: "2 hidden (photos/._1.png, photos/.thumbnails)"."""
        ordered = sorted(self.counts, key=lambda reason: (-self.counts[reason], reason))
        lines = []
        for reason in ordered[:REASONS]:
            more = ", …" if self.counts[reason] > len(self.examples[reason]) else ""
            lines.append(f"{self.counts[reason]:,} {reason} ({', '.join(self.examples[reason])}{more})")
        rest = ordered[REASONS:]
        if rest:
            lines.append(f"{sum(self.counts[reason] for reason in rest):,} for {len(rest)} other reasons")
        return lines


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """The image files in a folder."""

    names: list[str]
    """Paths relative to the folder with forward slashes, sorted. Bytes that are not UTF-8 are surrogates."""
    left_out: LeftOut
    """What else is there."""


def image_endings() -> tuple[str, ...]:
    """Return the endings of image files that can be read here, in lower case."""
    return ENDINGS + (HEIC_ENDINGS if find_spec("pillow_heif") else ())


def find_images(folder: Path) -> FoundImages:
    """Return the image files in a folder and its subfolders. Errors that may pass are retried.

    Raises:
        OSError: the folder itself cannot be read; subfolders that cannot be read are left out.
    """
    walk = _Walk(folder)
    walk.run()
    return FoundImages(names=sorted(walk.names), left_out=walk.left_out)


class _Walk:
    """One walk through a folder."""

    def __init__(self, folder: Path) -> None:
        self.names: list[str] = []
        self.left_out = LeftOut()
        self._top = folder
        self._endings = image_endings()
        self._retry = Retries()
        self._seen: set[tuple[int, int]] = set()
        # Links last, so that a folder is read by its own name.
        self._folders: deque[str] = deque([""])
        self._links: deque[str] = deque()

    def run(self) -> None:
        while self._folders or self._links:
            inside = (self._folders or self._links).popleft()
            try:
                self._read(inside)
            except OSError as error:
                if not inside:
                    raise
                self._leave_out(f"unreadable: {error.strerror}", inside)

    def _read(self, inside: str) -> None:
        path = self._path(inside)
        facts = self._retry(Path(path).stat)
        if (facts.st_dev, facts.st_ino) in self._seen:
            self._leave_out("linked to a folder that is read already", inside)
            return
        self._seen.add((facts.st_dev, facts.st_ino))
        entries = self._retry(lambda: _entries(path))
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.name.startswith(".") or entry.name in SYSTEM_FOLDERS:
                self._leave_out("hidden", name)
            elif entry.is_dir(follow_symlinks=False):
                self._folders.append(name)
            elif entry.is_file(follow_symlinks=False):
                self._add_file(name)
            else:
                self._follow(name)

    def _follow(self, name: str) -> None:
        """Add what a link leads to; pipes, sockets and devices are left out."""
        path = self._path(name)
        try:
            mode = self._retry(Path(path).stat).st_mode
        except OSError as error:
            self._leave_out(f"linked to nothing that can be read: {error.strerror}", name)
            return
        if S_ISREG(mode):
            self._add_file(name)
        elif not S_ISDIR(mode):
            self._leave_out("neither a file nor a folder", name)
        elif _is_above(Path(path).resolve(), self._top.resolve()):
            self._leave_out("linked to this folder or one above it", name)
        else:
            self._links.append(name)

    def _add_file(self, name: str) -> None:
        ending = PurePosixPath(name).suffix.lower()
        if ending in self._endings:
            self.names.append(name)
        elif name not in TABLES:
            self._leave_out(_reason_of(ending), name)

    def _leave_out(self, reason: str, name: str) -> None:
        self.left_out.add(reason, self._path(name))

    def _path(self, inside: str) -> str:
        return str(self._top / inside)


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return iter(sorted(entries, key=lambda entry: entry.name))


def _is_above(path: Path, inside: Path) -> bool:
    return inside.is_relative_to(path)


def _reason_of(ending: str) -> str:
    if ending in HEIC_ENDINGS:
        return f"ending in {ending}, which needs pip install 'partedvae[heic]'"
    return f"ending in {in_one_line(ending)}, which is not read" if ending else "without an ending"
