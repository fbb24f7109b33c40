"""Which concurrent calls share a message, and when it is sent.

`partedvae.coalescer` applies these rules to threads, `partedvae.async_coalescer` to the tasks of an event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import grpc
import numpy as np

from partedvae.arguments import check_positive
from partedvae.channel import Metadata
from partedvae.errors import InvalidRequestError, PartedVAEError
from partedvae.image_calls import ImageCall
from partedvae.image_chunks import Chunk
from partedvae.image_items import ImageInput
from partedvae.joined_calls import Message, PendingCall
from partedvae.packing import Packing

Result = TypeVar("Result")

MESSAGE_IMAGES = 256
"""Images that calls are joined to, at most: larger messages delay their first caller, and are not faster."""
CALL_IMAGES = 64
"""Images of a call that is joined with others, at most; larger ones gain nothing from it."""
IN_FLIGHT = 3
"""Messages of one kind and connection that may be in flight before calls wait: while the server computes one, another
is received, and the client prepares the third. With one of them, client and server would take turns."""
PART_CALLS = 16
"""Calls of a message, at least, where those that wait are divided among all that may be in flight."""
MAX_WAIT = 0.05
"""Seconds after which waiting calls are sent although earlier messages have not been answered."""
INLINE_BYTES = 64 * 1024
"""Bytes of arrays that are made into a message faster than a thread is asked to do it."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When waiting calls are sent."""

    in_flight: int
    """Messages of one kind that are in flight when calls begin to wait; with 0, they always wait."""
    max_wait: float
    """Seconds that the first of them waits, at most."""

    @classmethod
    def of(cls, coalesce: bool | float, *, connections: int) -> Self | None:
        """Return the policy for the client's argument, None where calls are not joined."""
        if coalesce is False:
            return None
        if coalesce is True:
            return cls(in_flight=IN_FLIGHT * connections, max_wait=MAX_WAIT)
        return cls(in_flight=0, max_wait=float(coalesce) / 1000)


def check_coalesce(coalesce: object, timeout: float | None) -> None:
    """Check the client's argument.

    Raises:
        InvalidRequestError: it is neither a bool nor a time in milliseconds below the timeout.
    """
    if isinstance(coalesce, bool):
        return
    if not isinstance(coalesce, int | float | np.number):
        raise InvalidRequestError(f"coalesce is {coalesce!r}; it must be True, False, or a number of milliseconds")
    check_positive("coalesce", coalesce, "milliseconds")
    if timeout is not None and coalesce >= 1000 * timeout:
        raise InvalidRequestError(
            f"coalesce is {coalesce} milliseconds, not less than the timeout of {timeout} s; calls would end before "
            "they are sent"
        )


def is_inline(images: ImageInput) -> bool:
    """Return whether images become a message without reading files and without notable work."""
    if isinstance(images, np.ndarray):
        return images.nbytes <= INLINE_BYTES
    if not isinstance(images, list | tuple) or len(images) > CALL_IMAGES:
        return False
    arrays = [image for image in images if isinstance(image, np.ndarray)]
    return len(arrays) == len(images) and sum(array.nbytes for array in arrays) <= INLINE_BYTES


def pending_call(call: ImageCall[Result], first: Sequence[Chunk], packing: Packing) -> PendingCall[Result] | None:
    """Return a call that may share a message, None for one that goes by itself.

    Args:
        call: the method and its options.
        first: its first two messages, or the only one.
        packing: the limits of a message.
    """
    if len(first) > 1 or len(first[0].positions) > CALL_IMAGES:
        return None
    pending = PendingCall(call, first[0], packing)
    holds_two = packing.holds(2 * pending.count, 2 * pending.size, 2 * pending.chunk.pixels)
    return pending if holds_two else None


class Sender(Protocol):
    """What both transports offer to those who join calls."""

    @property
    def address(self) -> str:
        """The server's address."""

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed."""

    @property
    def timeout(self) -> float | None:
        """Seconds per call; None for no limit."""

    def metadata(self) -> Metadata:
        """Return the metadata of a call."""

    def error(self, error: grpc.RpcError, locate: Callable[[str], str] = str) -> PartedVAEError:
        """Return the exception for a failed call."""

    def closed_error(self) -> PartedVAEError:
        """Return the exception for a call that was not finished when the client was closed."""


def parts_of(message: Message, error: Exception, sender: Sender) -> list[Message]:
    """Return the messages that the calls of a failed one are sent in again; none where each gets its error."""
    failed = sender.error(error) if isinstance(error, grpc.RpcError) else error
    return [] if sender.is_closed else message.parts(failed)


def failure_of(pending: PendingCall[Any], error: Exception, sender: Sender) -> Exception:
    """Return the error that a caller gets where its message has failed."""
    if sender.is_closed:  # gRPC has other errors for calls on a channel that is being closed.
        return sender.closed_error()
    if not isinstance(error, grpc.RpcError):
        return error
    made = sender.error(error, pending.chunk.locate)
    made.__cause__ = error
    return made


class Queue:
    """The waiting calls of one key. They always fit into one message."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.in_flight = 0
        """Messages that were sent and not answered."""
        self.waking = 0
        """Threads that have their result and do not run yet: they may call again at once."""
        self.calls: list[PendingCall[Any]] = []
        self._count = self._size = self._pixels = 0

    def fits(self, call: PendingCall[Any]) -> bool:
        """Return whether a call fits into the message, beside those that wait."""
        count, pixels = self._count + call.count, self._pixels + call.chunk.pixels
        return not self.calls or (count <= MESSAGE_IMAGES and call.packing.holds(count, self._size + call.size, pixels))

    def add(self, call: PendingCall[Any], max_wait: float) -> bool:
        """Let a call wait; return whether not to wait for others: the message is full, or the call has not the time.

        Args:
            call: a call that fits.
            max_wait: seconds for which it would wait, at most.
        """
        call.message = None
        self.calls.append(call)
        self._count += call.count
        self._size += call.size
        self._pixels += call.chunk.pixels
        return self._count >= MESSAGE_IMAGES or call.deadline - time.monotonic() < max_wait

    def remove(self, call: PendingCall[Any]) -> None:
        """Remove a call that waits, whose caller has given up."""
        self.calls.remove(call)
        self._count -= call.count
        self._size -= call.size
        self._pixels -= call.chunk.pixels

    def take(self, messages: int = 1) -> list[Message]:
        """Return the waiting calls in at most so many messages of about the same number; none waits any longer."""
        calls, self.calls = self.calls, []
        self._count = self._size = self._pixels = 0
        size = max(-(-len(calls) // max(messages, 1)), PART_CALLS)
        return [Message(calls[first : first + size]) for first in range(0, len(calls), size)]
