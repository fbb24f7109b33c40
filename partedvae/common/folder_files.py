"""The files that a table or a list of a folder's images names, as they are called in the folder.

Whatever way a table has to write the path of a file, the file has one name here: an image that had two would be both a
labelled training image and an unlabelled one, or a test image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from partedvae.common.data_error import DataError
from partedvae.common.file_names import in_one_line, printable, spellings


class FolderFiles:
    """Finds files of a folder by how they are written."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Prepare to find files.

        Args:
            folder: the folder.
            names: its image files, from `partedvae.common.image_folder.find_images`.
        """
        self._folder = folder
        self._names = names
        self._known = frozenset(names)

    def find(self, text: str) -> str:
        """Return the name of a file, which may be one that is no image of the folder, such as a hidden one.

        Args:
            text: its path relative to the folder, as it is written.

        Raises:
            DataError: it does not exist, or is outside the folder; the message has the nearest name.
        """
        for name in spellings(text):
            if name in self._known:
                return name
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                meant = self._suggestion(text)
                raise DataError(
                    f"{shown(text)} is outside the folder; write a path relative to the folder{meant}"
                    if not self._inside(name)
                    else f"{shown(text)} is not relative to the folder; write it without the folder{meant}"
                )
            try:
                if (self._folder / name).is_file():
                    # Another name of an image, by a link or on a file system that ignores case.
                    return self._by_identity.get(_identity(self._folder / name), name)
            except (OSError, ValueError) as error:  # a name that is too long, no permission, a null character
                reason = error.strerror if isinstance(error, OSError) else error
                raise DataError(f"{shown(text)} cannot be opened: {reason}; correct the path") from error
        if text.strip() in self._by_printed_name:
            return self._by_printed_name[text.strip()]
        path = in_one_line(str(self._folder / text.strip()))
        raise DataError(f"{path} does not exist; paths are relative to the folder{self._suggestion(text)}")

    def _inside(self, name: str) -> bool:
        return Path(name).is_relative_to(self._folder.absolute())

    def _suggestion(self, text: str) -> str:
        """Return `; did you mean …?` for the one image that differs in case, ending or folder."""
        path = PurePosixPath(PureWindowsPath(text.strip()).as_posix().lower())
        for table, key in (
            (self._by_lower_case, str(path)),
            (self._by_stem, str(path.with_suffix("") if path.name else path)),
            (self._by_stem, str(path)),
            (self._by_last_part, path.name),
        ):
            if table.get(key):
                return f"; did you mean {shown(table[key])}?"
        return ""

    @cached_property
    def _by_identity(self) -> dict[tuple[int, int], str]:
        # From the last to the first, which is the one that is kept.
        return {_identity(self._folder / name): name for name in reversed(self._names)}

    @cached_property
    def _by_printed_name(self) -> dict[str, str]:
        return {printable(name): name for name in self._names if printable(name) != name}

    @cached_property
    def _by_lower_case(self) -> dict[str, str]:
        return _unique(self._names, str.lower)

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        return _unique(self._names, lambda name: str(PurePosixPath(name.lower()).with_suffix("")))

    @cached_property
    def _by_last_part(self) -> dict[str, str]:
        return _unique(self._names, lambda name: PurePosixPath(name.lower()).name)


def shown(name: str) -> str:
    """Return a name in quotation marks, in one line."""
    return f"'{in_one_line(name)}'"


def _identity(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _unique(names: Iterable[str], key: Callable[[str], str]) -> dict[str, str]:
    """Return names by a key; an empty string where several have it."""
    table: dict[str, str] = {}
    for name in names:
        table[key(name)] = "" if key(name) in table else name
    return table
