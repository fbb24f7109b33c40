"""Calls that share a message: the request that they make together, and what each of them gets back."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from partedvae.channel import Metadata
from partedvae.errors import (
    AuthenticationError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from partedvae.image_calls import ImageCall
from partedvae.image_chunks import Chunk
from partedvae.packing import Packing
from partedvae.v1.tensors_pb2 import EncodedImages, Images, PackedImages

Result = TypeVar("Result")

FAILURES = 3
"""Joined messages that may fail before their calls are sent by themselves."""


class PendingCall(Generic[Result]):
    """A call that waits to be sent, or for its rows of a response."""

    __slots__ = (
        "call",
        "chunk",
        "count",
        "deadline",
        "failures",
        "key",
        "message",
        "metadata",
        "packing",
        "size",
        "waiter",
    )

    def __init__(self, call: ImageCall[Result], chunk: Chunk, packing: Packing) -> None:
        """Prepare a call.

        Args:
            call: the method and its options.
            chunk: all images of the call.
            packing: the limits of a message.
        """
        self.call = call
        self.chunk = chunk
        self.packing = packing
        self.count = len(chunk.positions)
        self.size = chunk.images.ByteSize()
        self.failures = 0
        """Joined messages that failed."""

    def begin(self, waiter: Any, metadata: Metadata, timeout: float | None) -> None:
        """Begin an attempt.

        Args:
            waiter: wakes the caller.
            metadata: with which this attempt is sent.
            timeout: seconds after which the caller gives up; None for never.
        """
        shape = tuple(self.chunk.images.packed.shape)
        # Files share a message whatever their size; grey images have one channel, whether or not their shape has it.
        kind = shape[1:3] if shape[3:] == (1,) else shape[1:]
        self.key: Hashable = (self.call.rpc, self.call.options, kind, metadata)
        """Equal for calls that can share a message."""
        self.metadata = metadata
        self.deadline = math.inf if timeout is None else time.monotonic() + float(timeout)
        """Time of `time.monotonic` at which the caller gives up."""
        self.message: Message | None = None
        """With which it was sent; None while it waits."""
        self.waiter = waiter
        """None once the caller has its result or error, or has given up."""

    @property
    def is_alone(self) -> bool:
        """Whether it is sent by itself, after messages that it shared have failed."""
        return self.failures >= FAILURES


class Message:
    """Calls that are sent together."""

    def __init__(self, calls: Sequence[PendingCall[Any]]) -> None:
        """Join calls of one key, in order."""
        self.calls = list(calls)
        self.rpc: Any = None
        """The call of gRPC, once it was made."""
        self.waiting = len(self.calls)
        """Callers that have not given up."""
        for call in self.calls:
            call.message = self

    def send(self, send: Callable[..., Any]) -> Any:
        """Make the call of gRPC, with the time until the last caller gives up.

        Args:
            send: takes the selected method, the request for all images, which is that of a lone call if there is one,
                the timeout and the metadata.
        """
        first = self.calls[0]
        request = first.call.request(joined([call.chunk.images for call in self.calls]))
        left = max(call.deadline for call in self.calls) - time.monotonic()
        timeout = None if left == math.inf else max(left, 0.001)
        self.rpc = send(first.call.method, request, timeout, first.metadata)
        return self.rpc

    def results(self, response: Any) -> list[Any]:
        """Return the result of each call.

        Raises:
            ValueError: the response does not have one row per image.
        """
        call = self.calls[0].call
        read = call.read(response)
        if len(self.calls) == 1:
            return [read]
        count = sum(pending.count for pending in self.calls)
        if call.lengths(read) - {count}:
            raise ValueError(f"a response to {count} images has {sorted(call.lengths(read))} rows")
        results, first = [], 0
        for pending in self.calls:
            results.append(call.rows(read, slice(first, first + pending.count)))
            first += pending.count
        return results

    def parts(self, error: Exception) -> list[Message]:
        """Return messages to be sent instead of this one, which has failed; none where each call has failed by itself.

        The image that a server refuses must not fail the calls of others: its call is sent by itself, and gets the
        error that it would have got alone. The others are joined again, unless they have failed several times, or
        nothing says which of them is refused.
        """
        if len(self.calls) == 1 or isinstance(error, DeadlineError | AuthenticationError | NotFoundError):
            return []
        if isinstance(error, OverloadedError | UnavailableError) and error.retryable:
            # Every caller waits before its next attempt. Where a server does not answer because of one of these
            # images, the later attempts of the others are made without it.
            for call in self.calls if isinstance(error, UnavailableError) else ():
                call.failures += 1
            return []
        culprit = self._culprit(error)
        rest: list[PendingCall[Any]] = []
        alone: list[PendingCall[Any]] = []
        for call in self.calls:
            if call.waiter is None:
                continue
            call.failures += 1
            (alone if culprit in (None, call) or call.is_alone else rest).append(call)
        return [Message([call]) for call in alone] + ([Message(rest)] if rest else [])

    def _culprit(self, error: Exception) -> PendingCall[Any] | None:
        """Return the call whose image a server has named, None where it has named none."""
        named = re.search(r"\bimage (\d+)\b", str(error)) if isinstance(error, InvalidRequestError) else None
        if named is None:
            return None
        index = int(named[1])
        for call in self.calls:
            if index < call.count:
                return call
            index -= call.count
        return None


def joined(images: Sequence[Images]) -> Images:
    """Return the images of several messages, files or arrays of one shape, as one."""
    if len(images) == 1:
        return images[0]
    if images[0].HasField("encoded"):
        return Images(encoded=EncodedImages(items=[item for each in images for item in each.encoded.items]))
    _, *shape = images[0].packed.shape
    count = sum(each.packed.shape[0] for each in images)
    return Images(packed=PackedImages(data=b"".join(each.packed.data for each in images), shape=[count, *shape]))
