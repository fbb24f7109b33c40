"""Older versions that are loaded because callers ask for them: how many, for how long, and how often others are."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from partedvae.serving.errors import TooManyLoadsError
from partedvae.serving.repository.versions import Version

CAPACITY = 2
"""Versions per model other than the default that stay loaded: during a roll-out the previous one and perhaps one more
are in use, and a client that names every version in turn must not fill the memory."""
IN_USE_SECONDS = 5.0
"""A version that was used this recently is not unloaded for another one. Otherwise a client that names every version in
turn would have versions loaded and unloaded all the time, also those that other clients use."""
BURST = 8
"""Loads that may follow each other immediately, for the clients of several models after a start or a roll-out."""
SECONDS_PER_LOAD = 2.0
"""Average time between further loads: loading takes a thread and some hundred milliseconds."""


class VersionCache:
    """The older versions that are loaded, or about to be. Can be used from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create an empty cache; `clock` returns seconds, and is another function in tests."""
        self._clock = clock
        self._lock = threading.Lock()
        self._used: OrderedDict[Version, float] = OrderedDict()
        """When each version was last used, the least recently used one first."""
        self._free_at = clock()
        """When the loads so far are over, at one per `SECONDS_PER_LOAD`."""

    def reserve(self, version: Version) -> None:
        """Make sure that a version may be loaded; `keep` or `release` must follow.

        Raises:
            TooManyLoadsError: as many versions of the model as may be loaded are in use, or too many were loaded.
        """
        with self._lock:
            now = self._clock()
            others = [other for other in self._used if other.name == version.name and other is not version]
            # One that is not loaded yet will be.
            idle = [now - self._used[other] if other.model is not None else 0.0 for other in others]
            busy = [seconds for seconds in idle if seconds < IN_USE_SECONDS]
            if len(busy) >= CAPACITY:
                raise TooManyLoadsError(
                    f"{len(busy)} older versions of model {version.name!r} are in use, and no more stay loaded",
                    IN_USE_SECONDS - max(busy),
                )
            begin = max(now, self._free_at)
            wait = begin - now - (BURST - 1) * SECONDS_PER_LOAD
            if wait > 0:
                raise TooManyLoadsError(f"{BURST} older versions of models have just been loaded", wait)
            self._free_at = begin + SECONDS_PER_LOAD
            self._touch(version, now)

    def release(self, version: Version) -> None:
        """Forget a version that could not be loaded."""
        with self._lock:
            self._used.pop(version, None)

    def touch(self, version: Version) -> None:
        """Mark a loaded version as used."""
        with self._lock:
            self._touch(version, self._clock())

    def keep(self, version: Version) -> None:
        """Mark a version that was just loaded as used, and unload the least recently used ones of its model."""
        with self._lock:
            self._touch(version, self._clock())
            loaded = [other for other in self._used if other.name == version.name and other.model is not None]
            oldest = loaded[: max(0, len(loaded) - CAPACITY)]
            for other in oldest:
                del self._used[other]
        _unload(oldest)

    def prune(self, older: set[Version]) -> None:
        """Forget versions that are not in `older`, and unload those in `older` that are not in the cache."""
        with self._lock:
            for version in self._used.keys() - older:
                del self._used[version]
            unused = older - self._used.keys()
        _unload(unused)

    def _touch(self, version: Version, now: float) -> None:
        self._used[version] = now
        self._used.move_to_end(version)


def _unload(versions: Iterable[Version]) -> None:
    """Unload versions; not under the lock of the cache, because freeing a model takes time."""
    for version in versions:
        version.unload()
