"""Types of options and arguments that are paths: local ones, and those that may also be URLs or patterns."""

from __future__ import annotations

import os
from typing import Any

import click

from partedvae.common.urls import is_url


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
        if is_url(text):
            self.fail(
                f"{text!r} is a URL, and partedvae reads and writes local paths: copy the file with the tool of the "
                "storage, or mount it",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


def any_path(text: str) -> str:
    """Return the text of a path, a URL, a pattern or another name of an input, which may not exist.

    Raises:
        click.BadParameter: it is empty.
    """
    if not text.strip():
        raise click.BadParameter("the path is empty; the current folder is '.'")
    return text
