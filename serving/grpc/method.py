"""One method of a service: the limits of its requests, and how messages become objects and objects messages.

Nothing here depends on how the bytes arrive. All of it is synchronous, and safe in any thread; `can_parse_here` and
`can_serialize_here` report whether the work is too little to be worth one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.grpc.call_policy import CallPolicy
from partedvae.serving.grpc.request_limits import (
    LARGE,
    SMALL,
    check_fields,
    holds_images,
    inflate,
    is_compressed,
    largest_size,
    too_large,
)
from partedvae.serving.request_memory import request_memory

MAX_BYTES_WITHOUT_IMAGES = 64 * 1024
"""Largest request of a method that takes no images."""
COPIES = 3
"""Copies of a message that are held while it is parsed and used: serialized, parsed, and its images by themselves."""
FEW_FIELDS = 1000
"""Fields up to which a message is checked without a thread: some milliseconds."""


def request_size() -> int:
    """Return the length of the current request in bytes; `ByteSize` of its message would serialize it."""
    return request_memory.get().message_bytes // COPIES


class Method:
    """A method, and how its messages are checked, parsed and serialized."""

    def __init__(
        self,
        name: str,
        deserialize: Callable[[bytes], Any],
        serialize: Callable[[Any], bytes],
        policy: CallPolicy,
    ) -> None:
        """Create a method.

        Args:
            name: full name, "/package.Service/Method".
            deserialize: parses the bytes of a request; raises `DecodeError`.
            serialize: returns the bytes of a reply.
            policy: limits of its calls.
        """
        self.name = name
        """Full name, "/package.Service/Method"."""
        self.policy = policy
        """Limits of its calls."""
        self.serialize = serialize
        """Returns the bytes of a reply."""
        self._deserialize = deserialize
        self._request: Descriptor = deserialize(b"").DESCRIPTOR
        self._takes_images = holds_images(self._request)
        most = policy.max_message_bytes
        self.max_bytes = most if self._takes_images else min(most, MAX_BYTES_WITHOUT_IMAGES)
        """Largest request, in bytes, also when it is decompressed."""

    def check_size(self, raw: bytes) -> int:
        """Return the bytes that a message may have when it is decompressed; at most `max_bytes`.

        Raises:
            MessageTooLargeError: it has more than `max_bytes`.
        """
        if len(raw) > self.max_bytes:
            raise too_large(f"{len(raw):,}", self.max_bytes, takes_images=self._takes_images)
        if not is_compressed(raw):
            return len(raw)
        return max(len(raw), min(largest_size(raw), self.max_bytes))

    @staticmethod
    def is_small(raw: bytes) -> bool:
        """Report whether `parse` is all that a message needs: no decompression, no check of its fields, no thread."""
        return len(raw) < SMALL and not is_compressed(raw)

    def inflate(self, raw: bytes) -> bytes:
        """Decompress a message; return one that is not compressed unchanged.

        Raises:
            MessageTooLargeError: it has more than `max_bytes`.
            InvalidInputError: it is damaged.
        """
        return inflate(raw, self.max_bytes, takes_images=self._takes_images)

    def can_parse_here(self, raw: bytes) -> bool:
        """Check the fields of a message unless it is large; report whether it was checked, and `parse` takes no time.

        Raises:
            InvalidInputError: there are too many fields, or a name is too long.
        """
        return len(raw) < LARGE and check_fields(raw, self._request, self.policy.max_images, FEW_FIELDS)

    def check_and_parse(self, raw: bytes) -> Any:
        """Check the fields of a message of any size, and parse it.

        Raises:
            InvalidInputError: there are too many fields, a name is too long, or the bytes are not a request.
        """
        check_fields(raw, self._request, self.policy.max_images)
        return self.parse(raw)

    def parse(self, raw: bytes) -> Any:
        """Parse a message whose fields were checked.

        Raises:
            InvalidInputError: the bytes are not a request.
        """
        try:
            return self._deserialize(raw)
        except DecodeError as error:
            raise InvalidInputError(
                f"the bytes are not a request of {self.name}: {error}; are client and server of the same version?"
            ) from error

    @staticmethod
    def can_serialize_here(reply: Any, held: int) -> bool:
        """Report whether serializing a reply takes no time.

        Args:
            reply: the reply.
            held: bytes that its call holds of the memory, which is more than the reply has.
        """
        return held < LARGE or reply.ByteSize() < LARGE  # `ByteSize` costs as much as serializing it.
