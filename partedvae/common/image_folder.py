"""The image files in a folder and its subfolders, and what is left out there, by reason.

Training and batch extraction read the same files of a folder:

1. Regular files whose ending is one of `image_endings`, upper or lower case.
2. Hidden files and folders (names that begin with a dot, such as `._1.png`) are left out, and so are the folders that
   systems create beside images (`SYSTEM_FOLDERS`). The folder itself may be hidden.
3. Links are followed. A folder that several names lead to is read once, by its own name where that is in the folder; a
   link to the folder itself or to one above it is left out.

`ImageWalk` finds the files one after another, so that a folder of any size needs little memory; `find_images` sorts
their names.
"""

from __future__ import annotations

import bisect
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
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
    """Files and folders that are not read: how many by reason, and the first of them by name."""

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
        if len(examples) < EXAMPLES or path < examples[-1]:
            bisect.insort(examples, in_one_line(path))
            del examples[EXAMPLES:]

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
    walk = ImageWalk(folder)
    return FoundImages(names=sorted(name for name, _ in walk), left_out=walk.left_out)


def reason_to_leave_out(name: str, endings: tuple[str, ...]) -> str | None:
    """Return why a file is not read as an image because of its name, None if it is read.

    Args:
        name: path relative to the folder, with forward slashes.
        endings: from `image_endings`.
    """
    if any(is_hidden(part) for part in name.split("/")):
        return "hidden"
    ending = _ending_of(name)
    return None if ending in endings else _reason_of(ending)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is left out because of its name, without those above it."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


class ImageWalk:
    """The image files of a folder, found one after another, in no particular order.

    Which files are found does not depend on that order: links are followed after all folders, the topmost first. Only
    the folders that are still to be read are in memory, and a number per folder that was read.
    """

    def __init__(
        self, folder: Path, *, depth: int | None = None, wanted: Callable[[str], bool] = lambda _name: True
    ) -> None:
        """Create a walk.

        Args:
            folder: the folder.
            depth: how many levels of subfolders to enter; all by default.
            wanted: whether to consider a file, given its name; others are not counted as left out.
        """
        self.left_out = LeftOut()
        self._top = folder
        self._depth = depth
        self._wanted = wanted
        self._endings = image_endings()
        self._retry = Retries()
        self._seen: set[int] = set()

    def __iter__(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield each image's path relative to the folder, with forward slashes, and its entry, which has its size.

        Bytes of names that are not UTF-8 are surrogates.

        Raises:
            OSError: the folder itself cannot be read.
        """
        links = deque([""])
        while links:
            found: list[str] = []
            folders = [links.popleft()]
            while folders:
                inside = folders.pop()
                try:
                    yield from self._read(inside, folders, found)
                except OSError as error:
                    if not inside:
                        raise
                    self._leave_out(f"unreadable: {error.strerror}", inside)
            # As by a walk in breadth: the name of a folder that several links lead to is the shortest, then the first.
            links.extend(sorted(found, key=lambda name: (name.count("/"), name.split("/"))))

    def _read(self, inside: str, folders: list[str], links: list[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
        path = self._path(inside)
        facts = self._retry(Path(path).stat)
        identity = facts.st_dev << 64 | facts.st_ino
        if identity in self._seen:
            self._leave_out("linked to a folder that is read already", inside)
            return
        self._seen.add(identity)
        level = inside.count("/") + 1 if inside else 0
        enter = self._depth is None or level < self._depth
        with self._retry(lambda: os.scandir(path)) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                if is_hidden(entry.name):
                    self._leave_out("hidden", name)
                elif entry.is_dir(follow_symlinks=False):
                    if enter:
                        folders.append(name)
                elif (
                    entry.is_file(follow_symlinks=False) or self._leads_to_a_file(name, links, enter)
                ) and self._is_image(name):
                    yield name, entry

    def _leads_to_a_file(self, name: str, links: list[str], enter: bool) -> bool:
        """Return whether a link leads to a file; note one to a folder; leave out pipes, sockets and devices."""
        path = self._path(name)
        try:
            mode = self._retry(Path(path).stat).st_mode
        except OSError as error:
            self._leave_out(f"linked to nothing that can be read: {error.strerror}", name)
            return False
        if S_ISREG(mode):
            return True
        if not S_ISDIR(mode):
            self._leave_out("neither a file nor a folder", name)
        elif self._top.resolve().is_relative_to(Path(path).resolve()):
            self._leave_out("linked to this folder or one above it", name)
        elif enter:
            links.append(name)
        return False

    def _is_image(self, name: str) -> bool:
        if not self._wanted(name):
            return False
        ending = _ending_of(name)
        if ending in self._endings:
            return True
        if name not in TABLES:
            self._leave_out(_reason_of(ending), name)
        return False

    def _leave_out(self, reason: str, name: str) -> None:
        self.left_out.add(reason, self._path(name))

    def _path(self, inside: str) -> str:
        return str(self._top / inside)


def _ending_of(name: str) -> str:
    """Return the suffix of a path in lower case, as pathlib does and many times as fast."""
    stem, dot, ending = name[name.rfind("/") + 1 :].rpartition(".")
    return f"{dot}{ending}".lower() if stem and ending else ""


def _reason_of(ending: str) -> str:
    if ending in HEIC_ENDINGS:
        return f"ending in {ending}, which needs pip install 'partedvae[heic]'"
    return f"ending in {in_one_line(ending)}, which is not read" if ending else "without an ending"
