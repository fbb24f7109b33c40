"""When a call that a server has refused is made again: after the server's time and a random one, within the timeout."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from partedvae.errors import DeadlineError, OverloadedError, PartedVAEError, UnavailableError

FIRST_DELAY, MAX_DELAY = 0.2, 2.0
"""Maximum seconds before the second attempt where the server names no time; it doubles each time, up to the second."""
MAX_SPREAD = 30.0
"""Maximum random seconds that are added to the server's time."""
SHORTEST = 0.05
"""Seconds that must be left for an attempt; otherwise attempts would follow each other faster and faster at the end."""
ATTEMPTS = 4
"""Attempts of a call where the server names no time: it may not be there at all."""
OUTAGE = 60.0
"""Seconds for which calls are made again where the client has no timeout."""
NOTICEABLE = 2.0
"""Seconds of waiting from which the error reports them, also where the server has named no time."""


class Backoff:
    """The refusals of one call, and when to make it again.

    Clients that were refused at the same moment must not come back at the same moment: each waits for the server's time
    and a random one, which is as long as the server's at most, and doubles with each refusal. Errors that would repeat
    themselves are not retried.
    """

    def __init__(
        self,
        timeout: float | None,
        *,
        attempts: int | None = ATTEMPTS,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Begin a call.

        Args:
            timeout: seconds for all attempts and the time between them; None waits for the responses without limit, and
                makes the call again for `OUTAGE` seconds.
            attempts: attempts where the server names no time; None is as many as fit into the timeout.
            clock: returns seconds; another one in tests.
            uniform: returns a random number between two others; another one in tests.
        """
        self._timeout = timeout
        self._attempts = attempts
        self._clock = clock
        self._uniform = uniform
        self._end = clock() + (OUTAGE if timeout is None else timeout)
        self._refusals = self._unadvised = 0
        self._advised = False
        self._waited = 0.0
        self._last: PartedVAEError | None = None

    @property
    def remaining(self) -> float | None:
        """Seconds that are left for the next attempt; None without a timeout."""
        return None if self._timeout is None else max(self._end - self._clock(), 0.001)

    def delay(self, error: PartedVAEError) -> float | None:
        """Return the seconds after which to make the call again; None where it has failed.

        The message of `error` then says how often the call was refused, and how long was waited.
        """
        if not isinstance(error, OverloadedError | UnavailableError) or not error.retryable:
            self._report(error)
            return None
        left = self._end - self._clock()
        self._refusals += 1
        self._last = error
        after = error.retry_after
        if after is None:
            self._unadvised += 1
            if left <= 0 or (self._attempts is not None and self._unadvised >= self._attempts):
                self._report(error)
                return None
            delay = self._uniform(0, min(FIRST_DELAY * 2.0 ** min(self._unadvised - 1, 10), MAX_DELAY, left))
        else:
            self._advised = True
            if after + SHORTEST > left:
                self._report(error, after)
                return None
            spread = max(after, FIRST_DELAY) * 2.0 ** min(self._refusals - 1, 10)
            # Something must be left for the attempt.
            delay = after + self._uniform(0, min(spread, MAX_SPREAD, (left - after) / 2))
        self._waited += delay
        return delay

    def _report(self, error: PartedVAEError, after: float | None = None) -> None:
        """Add to the message of the last error how often the call was refused, and how long was waited."""
        notes = []
        if after is not None:
            notes.append(f"the server asks to wait for {after:,.15g} s; raise timeout= to allow it")
        if self._waited and (self._advised or self._waited >= NOTICEABLE):
            times = "once" if self._refusals == 1 else f"{self._refusals} times"
            notes.append(f"refused {times}, {self._waited:.1f} s were waited between the attempts")
            if isinstance(error, DeadlineError) and self._last is not None:
                notes.append(f"the last refusal was: {self._last}")
        if notes:
            error.args = (f"{error} ({'; '.join(notes)})",)
