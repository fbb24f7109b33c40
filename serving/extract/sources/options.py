"""How the INPUT of batch extraction is read. Imports nothing heavy: the command's `--help` needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

PathStyle = Literal["relative", "as-given", "absolute", "url"]
PATH_STYLES: tuple[PathStyle, ...] = get_args(PathStyle)
READ_TIMEOUT = 60.0
ALL_COLUMNS = ("all",)


def path_style_of(text: str) -> PathStyle:
    """Return the style of that name; the default one for any other text."""
    return next((style for style in PATH_STYLES if style == text), "relative")


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Options of the input."""

    path_style: PathStyle = "relative"
    """How the column `path` names an image; see `partedvae.serving.extract.sources.keys`."""
    path_column: str | None = None
    """Column of a table with the paths, or with the images themselves; None is the only one with a usual name."""
    columns: tuple[str, ...] = ()
    """Columns of the input to pass on; `ALL_COLUMNS` is all of a table."""
    root: str | None = None
    """Folder or URL of the relative names of a list; None is the list's own folder."""
    data_dir: Path = Path("data")
    """Folder of the registered data sets."""
    read_timeout: float = READ_TIMEOUT
    """Seconds that one attempt to read a file from a URL may take."""


DEFAULT_OPTIONS = InputOptions()
