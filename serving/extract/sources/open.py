"""Opens the INPUT of batch extraction, whatever it is."""

from __future__ import annotations

from pathlib import Path

from partedvae.common.image_folder import LeftOut, find_images, image_endings
from partedvae.common.text_files import TextError, read_names
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.arrays import ArraySource
from partedvae.serving.extract.sources.files import FileSource
from partedvae.serving.extract.sources.idx import IdxSource
from partedvae.serving.extract.sources.source import Source


def open_source(path: Path) -> Source:
    """Open the INPUT of the command.

    Raises:
        InvalidInputError: it has no images, or an unsupported format.
        OSError: it cannot be read.
    """
    if path.is_dir():
        found = find_images(path)
        source: Source = FileSource(path, found.names, found.left_out)
    elif path.suffix.lower() == ".txt":
        source = FileSource(path.parent, _read_list(path))
    elif path.suffix.lower() in (".npy", ".npz"):
        source = ArraySource(path)
    elif path.suffix.lower() in image_endings():
        source = FileSource(path.parent, [path.name])
    else:
        source = IdxSource(path)
    if not len(source):
        raise InvalidInputError(_no_images(path, source.left_out))
    return source


def _no_images(path: Path, left_out: LeftOut) -> str:
    if not path.is_dir():
        return f"{path} contains no images"
    found = f"; left out: {'; '.join(left_out.lines())}" if left_out.counts else ""
    return f"{path} contains no images ({', '.join(image_endings())}){found}"


def _read_list(path: Path) -> list[str]:
    """Return the names in a list file; they may have bytes that are not UTF-8, as in `os`.

    Raises:
        InvalidInputError: it is not text.
    """
    try:
        return [name for _, name in read_names(path)]
    except TextError as error:
        raise InvalidInputError(f"{path} cannot be read as a list of paths, one per line: {error}") from error
