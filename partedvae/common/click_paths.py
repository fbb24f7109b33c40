"""The type of options and arguments that are paths: local ones, neither URLs nor empty."""

from __future__ import annotations

import os
import re
from typing import Any

import click

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""The start of a URL, with one slash, since pathlib merges two; the scheme has two letters, unlike a Windows drive."""


class LocalPath(click.Path):
    """A `click.Path` that refuses URLs and empty paths.

    s3://bucket/file would become a local folder `s3:`, and an empty path, of a shell variable that is not set, the
    current folder.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fail if it is a URL or empty."""
        text = os.fspath(value)
        if not text.strip():
            self.fail("the path is empty; the current folder is '.'", param, ctx)
        if _URL.match(text):
            self.fail(
                f"{text!r} is a URL, and partedvae reads and writes local paths: copy the file with the tool of the "
                "storage, or mount it",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)
