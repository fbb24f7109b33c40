"""A text file that names some of the images of a folder or input, one per line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from partedvae.common.data_error import DataError
from partedvae.common.file_names import in_one_line, spellings
from partedvae.common.text_files import TextError, read_names


def read_listed(path: Path, names: Collection[str], of: str) -> list[str]:
    """Return the images that a list names, in its order and each once.

    Args:
        path: the list; its lines may spell a name as another system does (`partedvae.common.file_names.spellings`).
        names: all images.
        of: what they are of, for errors: "folder".

    Raises:
        DataError: the list cannot be read, or names another image.
    """
    known = frozenset(names)
    try:
        lines = read_names(path)
    except (OSError, TextError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    found: dict[str, None] = {}
    for number, line in lines:
        text = line.strip()
        name = next((each for each in (*spellings(line), text) if each in known), None)
        if name is None:
            raise DataError(f"{path}, line {number}: {in_one_line(text)!r} is not an image of the {of}; correct it")
        found[name] = None
    return list(found)
