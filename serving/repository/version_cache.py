"""Older versions that stay loaded because somebody names them."""

from __future__ import annotations

import threading
from collections import OrderedDict

from partedvae.serving.repository.versions import Version

MAX_PINNED = 2
"""Versions other than the newest that stay loaded, the last used ones: a client that names each version in turn must
not fill the memory, and a roll-out has the one before and perhaps one more in use."""


class PinnedVersions:
    """The versions that were asked for last, up to `MAX_PINNED`. Safe to use from many threads at once."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._versions: OrderedDict[Version, None] = OrderedDict()

    def keep(self, version: Version) -> None:
        """Note that a version was asked for, and drop the one that was not for longest."""
        with self._lock:
            self._versions[version] = None
            self._versions.move_to_end(version)
            while len(self._versions) > MAX_PINNED:
                oldest, _ = self._versions.popitem(last=False)
                oldest.unload()

    def prune(self, older: set[Version]) -> None:
        """Forget what is not among the older versions that there are now, and unload those that nobody asked for."""
        with self._lock:
            self._versions = OrderedDict((version, None) for version in self._versions if version in older)
            for version in older - self._versions.keys():
                version.unload()
