"""Progress of long work: a bar on a terminal, a plain line at intervals where the output is a file or a pipe."""

from __future__ import annotations

import sys
from typing import NoReturn, TextIO

from tqdm import tqdm

PLAIN_INTERVAL = 10.0
"""Seconds between two lines where standard error is not a terminal."""
PLAIN_DELAY = 2.0
"""Seconds before the first line there; shorter work shows none."""


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


def progress_bar(total: int, *, unit: str, title: str, done: int = 0, shown: bool = True) -> tqdm[NoReturn]:
    """Return a tqdm bar on standard error with amount, rate and time left.

    Args:
        total: units of the whole work.
        unit: name of a unit, for the rate.
        title: what is shown before the bar.
        done: units that were done before.
        shown: whether to draw anything.
    """
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
        delay=PLAIN_DELAY,
        # Without this, tqdm's guess of how often to look would ignore the interval when steps slow down.
        miniters=1,
        file=_Lines(sys.stderr),
        bar_format="{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} {rate_fmt} left {remaining}{postfix}",
    )
