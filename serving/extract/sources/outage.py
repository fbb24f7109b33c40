"""Ends a run whose storage is not available, instead of filling its output with failures."""

from __future__ import annotations

from partedvae.serving.errors import ServingError

OUTAGE = 64
"""Images in a row that cannot be read, for a reason that is not theirs, before the storage counts as unavailable."""
UNAVAILABLE = "the storage is not available"


class StorageError(ServingError):
    """A storage that is not available; the message has the path or URL, and the reason."""


class FailureCounter:
    """Counts images in a row that could not be read for a reason that may pass, in all threads."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """Begin anew, after an image that could be read."""
        self._failures = 0

    def failed(self, where: str, reason: str, cause: str = UNAVAILABLE, *, images: int = 1) -> None:
        """Count images that cannot be read.

        Args:
            where: path or URL of the image, or of the archive of all of them.
            reason: why it cannot be read.
            cause: what is the matter if the images before it could not be read either.
            images: number of images.

        Raises:
            StorageError: it is one of `OUTAGE` in a row.
        """
        self._failures += images
        if self._failures >= OUTAGE:
            raise StorageError(f"{where}: {reason}; {self._failures} images in a row could not be read: {cause}")
