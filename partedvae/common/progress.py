"""Progress of long operations: a bar on a terminal, lines at intervals in a file or a pipe."""

from __future__ import annotations

import sys
from typing import Any, NoReturn, TextIO

from tqdm import tqdm

PLAIN_INTERVAL = 10.0
"""Seconds between lines where standard error is not a terminal."""
PLAIN_DELAY = 2.0
"""Seconds before the first line; shorter operations print none."""


class _Lines:
    """A stream that prints tqdm's redrawn bar as separate lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._stream.write(line + "\n")

    def flush(self) -> None:
        self._stream.flush()


def progress_bar(total: int | None, *, unit: str, title: str, done: int = 0, shown: bool = True) -> tqdm[NoReturn]:
    """Return a tqdm bar on standard error with count, rate and remaining time.

    Args:
        total: number of units; None if it is not known, for a count and a rate alone, of long operations only.
        unit: name of one unit, for the rate.
        title: text before the bar.
        done: units that are done already.
        shown: False disables the bar.
    """
    shared: dict[str, Any] = {
        "disable": not shown,
        "total": total,
        "initial": done,
        "unit": unit,
        "desc": title,
        "unit_scale": True,
    }
    if sys.stderr.isatty():
        return tqdm(**shared, dynamic_ncols=True, leave=False, delay=PLAIN_DELAY if total is None else 0)
    known = "{percentage:3.0f}% {n_fmt}/{total_fmt} {rate_fmt} left {remaining}{postfix}"
    return tqdm(
        **shared,
        mininterval=PLAIN_INTERVAL,
        delay=PLAIN_DELAY,
        # By default tqdm adapts this to the rate, and then misses the interval when steps slow down.
        miniters=1,
        file=_Lines(sys.stderr),
        bar_format="{desc}: " + (known if total is not None else "{n_fmt} {unit} in {elapsed}, {rate_fmt}"),
    )
