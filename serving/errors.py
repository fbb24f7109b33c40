"""Errors of the serving domain. Messages are shown to the caller: each names the value and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ServingError(Exception):
    """Base of all errors that a caller or an operator can fix."""


class InvalidInputError(ServingError, ValueError):
    """The request is invalid; retrying it cannot succeed."""


class ImageError(InvalidInputError):
    """One image of a batch cannot be used."""

    def __init__(self, index: int, reason: str) -> None:
        """Create the error.

        Args:
            index: position of the image in the batch.
            reason: what is wrong with it, and the remedy.
        """
        super().__init__(f"image {index}: {reason}")
        self.index = index
        self.reason = reason


@contextmanager
def in_field(name: str) -> Iterator[None]:
    """Name the field of a request with several fields of images at the start of the errors of its images."""
    try:
        yield
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: {error}") from error


class ModelNotFoundError(ServingError, LookupError):
    """The model or version does not exist."""


class BundleError(ServingError):
    """A bundle is missing, damaged or of an unknown format version."""


class DeviceError(ServingError):
    """The requested device is not available."""


class InstallationError(ServingError, ValueError):
    """Packages are installed that exclude each other."""


class AddressError(ServingError):
    """The address to listen on is malformed, in use, or not an address of this machine."""


class ConfigError(ServingError):
    """The configuration of the server is invalid."""


class WorkerError(ServingError):
    """A worker process failed to start, or had to be killed."""


class SecurityError(ServingError):
    """A certificate, key or token file cannot be used."""


class MessageTooLargeError(ServingError):
    """A request exceeds the message size limit."""


class StoppingError(ServingError):
    """The server is stopping and accepts no new calls; another server may."""


class OverloadedError(ServingError):
    """The server is overloaded; the request was not started."""

    def __init__(self, waiting: int, limit: int, retry_after: float) -> None:
        """Create the error.

        Args:
            waiting: images that wait.
            limit: images that may wait.
            retry_after: estimated seconds until there is capacity.
        """
        super().__init__(
            f"{waiting} images are already waiting, the limit is {limit}: try again in {retry_after:.2g} s, "
            "or use StreamFeatures, which waits for capacity"
        )
        self.waiting = waiting
        self.limit = limit
        self.retry_after = retry_after
        """Seconds, estimated from the present rate."""


class TooManyCallsError(OverloadedError):
    """Too many calls are active; the request was not started."""

    def __init__(self, limit: int) -> None:
        """Create the error for a limit of active calls."""
        ServingError.__init__(self, f"{limit} calls are active, which is the limit: try again in 1 s")
        self.waiting = self.limit = limit
        self.retry_after = 1.0


class TooManyLoadsError(OverloadedError):
    """A version of a model is not loaded, and may not be loaded now."""

    def __init__(self, reason: str, retry_after: float) -> None:
        """Create the error.

        Args:
            reason: what is in use.
            retry_after: seconds until it may be loaded.
        """
        ServingError.__init__(
            self, f"{reason}: try again in {retry_after:.2g} s, or use the default version, which is always loaded"
        )
        self.waiting = self.limit = 0
        self.retry_after = retry_after
