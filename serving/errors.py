"""Errors of the serving domain. Their messages are for the caller: each names the value and the remedy."""

from __future__ import annotations


class ServingError(Exception):
    """Base of all errors that a caller or an operator can do something about."""


class InvalidInputError(ServingError, ValueError):
    """The request can never succeed as it is."""


class ImageError(InvalidInputError):
    """One image of a batch cannot be used."""

    def __init__(self, index: int, reason: str) -> None:
        """Name the image by its position in the batch."""
        super().__init__(f"image {index}: {reason}")
        self.index = index
        self.reason = reason


class ModelNotFoundError(ServingError, LookupError):
    """No such model or version."""


class BundleError(ServingError):
    """A bundle is missing, damaged or of a format that this version does not know."""


class DeviceError(ServingError):
    """The device asked for is not to be had here."""


class AddressError(ServingError):
    """The address to listen on is malformed, taken, or not this machine's."""


class ConfigError(ServingError):
    """The server cannot be run as it was told to."""


class WorkerError(ServingError):
    """A process that serves could not be started, or did not end well."""


class SecurityError(ServingError):
    """A certificate, a key or a file of tokens cannot be used."""


class MessageTooLargeError(ServingError):
    """A request is larger than the server takes."""


class StoppingError(ServingError):
    """The server is stopping; what it had taken on is done, the rest is for another."""


class OverloadedError(ServingError):
    """There is too much to do already; the request was not begun."""

    def __init__(self, waiting: int, limit: int, retry_after: float) -> None:
        """Tell how many rows wait and how many may, and in how many seconds there should be room."""
        super().__init__(
            f"{waiting} images wait already, the limit is {limit}: try again in {retry_after:.2g} s, "
            "or send bulk through StreamFeatures, which waits for room"
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
