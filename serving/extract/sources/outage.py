"""Ends a run whose storage is not available, instead of filling its output with failures."""

from __future__ import annotations

import errno
import os

from partedvae.common.retry import is_transient
from partedvae.serving.errors import ServingError

OUTAGE = 64
"""Images in a row that cannot be read, for a reason that is not theirs, before the storage counts as unavailable."""
UNAVAILABLE = "the storage is not available"


class StorageError(ServingError):
    """A storage that is not available; the message has the path or URL, and the reason."""


def is_outage(error: OSError, folder: str = "") -> bool:
    """Return whether an error is one of the storage, and not of the file alone.

    Args:
        error: the error.
        folder: where the file is: permissions are those of a file, unless those of its folder are gone too.
    """
    if error.errno != errno.EACCES:
        return is_transient(error)
    return bool(folder) and not os.access(folder, os.R_OK | os.X_OK)


class FailureCounter:
    """Counts images in a row that could not be read for a reason that is not theirs, in all threads of a process."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """Begin anew, after an image that could be read."""
        self._failures = 0

    def failed(self, where: str, reason: str, cause: str = UNAVAILABLE, *, weight: int = 1) -> None:
        """Count an image, or an archive, that cannot be read.

        Args:
            where: its path or URL.
            reason: why it cannot be read.
            cause: what is the matter if those before it could not be read either.
            weight: as how many images it counts.

        Raises:
            StorageError: so many in a row could not be read that the storage is not available.
        """
        self._failures += weight
        if self._failures >= OUTAGE:
            raise StorageError(f"{where}: {reason}, like those before it: {cause}")
