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


def without_frames(error: ImageError) -> ImageError:
    """Return an error that is kept without its traceback and cause, whose frames would keep the images in memory."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


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
    """A package is missing, or packages are installed that exclude each other."""


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

    def __init__(self, reason: str, retry_after: float, alternative: str = "") -> None:
        """Create the error.

        Args:
            reason: what is exhausted; the message goes on with the time.
            retry_after: estimated seconds until there is capacity.
            alternative: end of the message.
        """
        super().__init__(f"{reason}: try again in {round(retry_after, 2):g} s{alternative}")
        self.retry_after = retry_after
        """Seconds after which the caller should try again."""


_WAITS = ", or use StreamFeatures, which waits for capacity"


class QueueFullError(OverloadedError):
    """Too many images wait; the request was not started."""

    def __init__(self, waiting: int, limit: int, retry_after: float) -> None:
        """Create the error.

        Args:
            waiting: images that wait.
            limit: images that may wait.
            retry_after: estimated seconds until there is capacity, from the present rate.
        """
        super().__init__(f"{waiting} images are already waiting, the limit is {limit}", retry_after, _WAITS)


class MemoryLimitError(OverloadedError):
    """Other requests hold the memory that this one needs; it was not started."""

    def __init__(self, reserved: int, limit: int, retry_after: float) -> None:
        """Create the error.

        Args:
            reserved: bytes that are held.
            limit: bytes that may be held.
            retry_after: estimated seconds until there is capacity.
        """
        super().__init__(f"other requests hold {reserved:,} of {limit:,} bytes of memory", retry_after, _WAITS)


TOO_MANY_RETRY_AFTER = 0.5
"""Seconds after which a call that was refused for the number of calls should be tried again."""


class TooManyCallsError(OverloadedError):
    """Too many calls are active; the request was not started."""

    def __init__(self, limit: int, whose: str = "") -> None:
        """Create the error.

        Args:
            limit: calls that may be active.
            whose: " of this connection" for a limit of its own.
        """
        active = f"1 call{whose} is active" if limit == 1 else f"{limit} calls{whose} are active"
        super().__init__(f"{active}, which is the limit", TOO_MANY_RETRY_AFTER)


class EvictedError(OverloadedError):
    """The server stopped waiting for a client: for a request to arrive, or for a reply to be taken."""


class TooManyLoadsError(OverloadedError):
    """A version of a model is not loaded, and may not be loaded now."""

    def __init__(self, reason: str, retry_after: float) -> None:
        """Create the error.

        Args:
            reason: what is in use.
            retry_after: seconds until it may be loaded.
        """
        super().__init__(reason, retry_after, ", or use the default version, which is always loaded")
