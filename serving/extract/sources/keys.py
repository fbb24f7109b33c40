"""What the column `path` calls an image, chosen with --path-style.

relative: the name in the folder, prefix or list. as-given: the INPUT as typed, then that name; names of a list stay as
they are. absolute: the absolute path, or the URL. url: file:///… or the URL.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from urllib.parse import quote

from partedvae.common.file_names import printable
from partedvae.common.urls import is_url
from partedvae.serving.extract.sources.options import PathStyle


@dataclass(frozen=True, kw_only=True)
class PathKeys:
    """The keys of images that have paths."""

    style: PathStyle
    given: str
    """The folder of the names as it was typed; empty for the names of a list."""
    folder: str
    """The folder of the names: a path, or a URL."""

    @property
    def facts(self) -> str:
        """What the keys depend on beside the names: the folder, as it is written in them."""
        match self.style:
            case "relative":
                return ""
            case "as-given":
                return self.given.rstrip("/")
        return located(self.folder)

    def of(self, name: str) -> str:
        """Return the key of an image, given its name in the folder."""
        match self.style:
            case "relative":
                return printable(name)
            case "as-given":
                return printable(posixpath.join(self.given, name))
        if is_url(name):
            return printable(name)
        if is_url(self.folder):
            return printable(f"{self.folder.rstrip('/')}/{name}")
        path = os.path.abspath(os.path.join(self.folder, name))  # noqa: PTH100, PTH118 - pathlib does not fold ".."
        return printable(path) if self.style == "absolute" else "file://" + quote(os.fsencode(path))


def located(folder: str) -> str:
    """Return the absolute path of a folder, or its URL, in one spelling."""
    return folder.rstrip("/") if is_url(folder) else os.path.abspath(folder)  # noqa: PTH100
