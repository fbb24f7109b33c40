"""The type of options and arguments that are paths: local ones, not URLs."""

from __future__ import annotations

import os
import re
from typing import Any

import click

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""The start of a URL, with one slash, since pathlib merges two; the scheme has two letters, unlike a Windows drive."""


class LocalPath(click.Path):
    """A `click.Path` that refuses URLs: s3://bucket/file would become a local folder `s3:`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fail if it is a URL."""
        text = os.fspath(value)
        if _URL.match(text):
            self.fail(
                f"{text!r} is a URL, and partedvae reads and writes local paths: copy the file with the tool of the "
                "storage, or mount it",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)
