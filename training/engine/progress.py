"""Progress of long work: a bar on a terminal, a plain line now and then where the output is a file or a pipe."""

from __future__ import annotations

import sys
from typing import NoReturn, TextIO

from tqdm import tqdm

PLAIN_INTERVAL = 15.0
"""Seconds between two lines where the output is no terminal."""


class _Lines:
    """A stream for tqdm that turns its redrawn bar into lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._stream.write(line + "\n")

    def flush(self) -> None:
        self._stream.flush()


def progress_bar(total: int, *, done: int, unit: str, title: str, shown: bool = True) -> tqdm[NoReturn]:
    """Return a tqdm bar on standard error: amount, rate and time left; nothing is drawn unless `shown`."""
    if sys.stderr.isatty():
        return tqdm(
            disable=not shown,
            total=total,
            initial=done,
            unit=unit,
            desc=title,
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
        )
    return tqdm(
        disable=not shown,
        total=total,
        initial=done,
        unit=unit,
        desc=title,
        unit_scale=True,
        mininterval=PLAIN_INTERVAL,
        # Without this, tqdm's guess of how often to look would ignore the interval when steps slow down.
        miniters=1,
        file=_Lines(sys.stderr),
        bar_format="{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} {rate_fmt} left {remaining}{postfix}",
    )
