"""Older versions that stay loaded while they are used."""

from __future__ import annotations

import threading
from collections import OrderedDict

from partedvae.serving.repository.versions import Version

CAPACITY = 2
"""Versions other than the default that stay loaded: a client that names every version in turn must not fill the memory,
and during a roll-out the previous version and perhaps one more are in use."""


class VersionCache:
    """The most recently used older versions; others are unloaded. Can be used from several threads."""

    def __init__(self) -> None:
        """Create an empty cache."""
        self._lock = threading.Lock()
        self._versions: OrderedDict[Version, None] = OrderedDict()

    def keep(self, version: Version) -> None:
        """Mark a version as used, and unload the least recently used one if there are too many."""
        with self._lock:
            self._versions[version] = None
            self._versions.move_to_end(version)
            while len(self._versions) > CAPACITY:
                oldest, _ = self._versions.popitem(last=False)
                oldest.unload()

    def prune(self, older: set[Version]) -> None:
        """Forget versions that are not in `older`, and unload those in `older` that are not in the cache."""
        with self._lock:
            self._versions = OrderedDict((version, None) for version in self._versions if version in older)
            for version in older - self._versions.keys():
                version.unload()
