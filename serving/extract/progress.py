"""How far a long run is: a bar on a terminal, a line every few seconds elsewhere (a log file, a pipe)."""

from __future__ import annotations

import sys
import time
from typing import NoReturn, Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts images on stderr, with the rate and the time left. Use it in a `with` block."""

    def __init__(self, total: int, label: str) -> None:
        """Start the clock.

        Args:
            total: images to come.
            label: what is done to them.
        """
        self._total, self._label = total, label
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=label, unit="img", unit_scale=True, dynamic_ncols=True)

    def update(self, count: int) -> None:
        """Count images that are done."""
        self._done += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(count)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = self._done / (now - self._started)
            left = (self._total - self._done) / rate
            print(
                f"{self._label}: {self._done:,} of {self._total:,} images, {rate:,.0f} images/s, {left:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.close()
