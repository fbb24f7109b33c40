"""The type of options and arguments that are paths of this machine."""

from __future__ import annotations

import os
import re
from typing import Any

import click

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""The start of a URL, also of one whose slashes were merged; a drive of Windows has one letter."""


class LocalPath(click.Path):
    """A `click.Path` that refuses URLs, for which it would create a folder named after their scheme."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a URL is a usage error."""
        if URL.match(os.fspath(value)):
            self.fail(f"{os.fspath(value)!r} is a URL; only local paths are supported: copy the file", param, ctx)
        return super().convert(value, param, ctx)
