"""Looks at the serialized bytes of a request before they are parsed: number of fields, and length of names.

A few bytes of a message can become hundreds in memory: an empty entry of a repeated field takes two bytes on the wire
and fifty in memory, and what is parsed is compared and shown in messages later. The wire format is simple to walk:
every field has its number and its length. Messages of less than `SMALL` bytes are parsed at once: they cannot become
large.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from partedvae.serving.errors import InvalidInputError, MessageTooLargeError

SMALL = 4096
"""Bytes from which messages are checked before they are parsed."""
LARGE = 1024 * 1024
"""Bytes from which a message is parsed, made or serialized in a thread: copying it would hold the event loop."""
MAX_NAME = 1024
"""Bytes of a string."""
MAX_ENTRIES = 1024
"""Entries of a repeated field that has no limit in `_ENTRIES`."""
MAX_WIRE = 10
"""Bytes of one number of a packed field."""
_MAX_NUMBERS_MB = 4

_PER_IMAGE = {
    "partedvae.v1.EncodedImages.items",
    "partedvae.v1.ClassChoices.items",
    "inference.InferTensorContents.bytes_contents",
}
"""Repeated fields with an entry per image."""
_ENTRIES = {
    "partedvae.v1.PackedImages.shape": 8,
    "partedvae.v1.FloatTensor.shape": 8,
    "inference.ModelInferRequest.InferInputTensor.shape": 8,
    "inference.InferTensorContents.uint_contents": _MAX_NUMBERS_MB * 1024 * 1024 // MAX_WIRE,
    # Their size in memory is their size on the wire.
    "inference.InferTensorContents.fp32_contents": 2**31,
    "inference.ModelInferRequest.raw_input_contents": 16,
}
"""Largest number of entries of other fields."""

_MAX_RATIO = 1032
"""Largest factor by which deflate compresses."""
GZIP = b"\x1f\x8b"
"""First bytes of a message that was compressed with gzip. No protobuf message begins so."""
DEFLATE = b"\x78"
"""First byte of a message that was compressed with deflate: in protobuf, a field number 15, which no request has."""


@dataclass(slots=True)
class _Field:
    name: str
    most: int
    """Entries; 1 for a field that is not repeated, of which the last counts."""
    is_string: bool
    is_packed: bool
    message: _Message | None


@dataclass(slots=True)
class _Message:
    fields: dict[int, _Field] = field(default_factory=dict)


@cache
def holds_images(message: Descriptor) -> bool:
    """Return whether a type of requests has a field of bytes, and may therefore be large."""
    return any(
        field.type == FieldDescriptor.TYPE_BYTES
        or (field.message_type is not None and holds_images(field.message_type))
        for field in message.fields
    )


def is_compressed(raw: bytes) -> bool:
    """Return whether a client has compressed a message with gzip or deflate."""
    return raw.startswith((GZIP, DEFLATE))


def largest_size(raw: bytes) -> int:
    """Return the bytes that a message may have when it is decompressed: with gzip, those that it declares."""
    if raw.startswith(GZIP):
        return int.from_bytes(raw[-4:], "little")
    return _MAX_RATIO * len(raw) if raw.startswith(DEFLATE) else len(raw)


def inflate(raw: bytes, limit: int, *, takes_images: bool) -> bytes:
    """Decompress a message; return one that is not compressed unchanged.

    Raises:
        MessageTooLargeError: it has more than `limit` bytes.
        InvalidInputError: it is damaged.
    """
    if not is_compressed(raw):
        return raw
    most = min(largest_size(raw), limit)
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # Recognises both formats.
    try:
        inflated = decompressor.decompress(raw, most + 1)
    except zlib.error as error:
        raise InvalidInputError(f"the compressed request cannot be decompressed: {error}") from error
    if len(inflated) > most:
        if most < limit:
            raise InvalidInputError(f"the compressed request has more than the {most:,} bytes that it declares")
        raise too_large(f"more than {limit:,}", limit, takes_images=takes_images)
    if not decompressor.eof:
        raise InvalidInputError("the compressed request is not complete")
    if decompressor.unused_data:
        raise InvalidInputError(f"the compressed request has {len(decompressor.unused_data):,} bytes after its end")
    return inflated


def too_large(size: str, limit: int, *, takes_images: bool) -> MessageTooLargeError:
    """Return the error for a request of `size` bytes."""
    remedy = "make it smaller; only requests with images may be larger"
    if takes_images:
        remedy = "send fewer images per request, or start the server with a larger --max-message-mb"
    return MessageTooLargeError(f"the request has {size} bytes, above the limit of {limit:,}; {remedy}")


def check_fields(raw: bytes, message: Descriptor, max_images: int, at_most: int | None = None) -> bool:
    """Check the number of fields and the length of names of a serialized message; damaged ones are left to the parser.

    Args:
        raw: the message.
        message: its type.
        max_images: largest number of entries of fields with an entry per image.
        at_most: fields after which the check ends; a thousand take some milliseconds.

    Returns:
        Whether the whole message was checked.

    Raises:
        InvalidInputError: there are too many fields, or a name is too long.
    """
    if len(raw) < SMALL:
        return True
    max_fields = 4 * max_images + 4096
    try:
        _Walk(raw, max_fields if at_most is None else min(at_most, max_fields)).check(
            _table(message, max_images), 0, len(raw)
        )
    except _TooManyFieldsError:
        if at_most is not None and at_most < max_fields:
            return False
        raise InvalidInputError(
            f"the request has more than {max_fields:,} fields, which is the limit; send several requests"
        ) from None
    return True


class _TooManyFieldsError(Exception):
    """A walk has come to its limit."""


class _Walk:
    """One walk through a message."""

    def __init__(self, raw: bytes, max_fields: int) -> None:
        self._raw = raw
        self._left = max_fields

    def check(self, message: _Message, position: int, end: int) -> None:
        raw = self._raw
        counts: dict[int, int] = {}
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise _TooManyFieldsError
            tag, position = _varint(raw, position)
            number, wire = tag >> 3, tag & 7
            known = message.fields.get(number)
            length = 0
            if wire == 2:
                length, position = _varint(raw, position)
            elif wire == 0:
                _, position = _varint(raw, position)
            elif wire == 5:
                position += 4
            elif wire == 1:
                position += 8
            elif wire in (3, 4):
                raise InvalidInputError("the request has a field of type group, which no version of protobuf 3 has")
            else:
                return
            if known is not None:
                entries = counts[number] = counts.get(number, 0) + (
                    -(-length // MAX_WIRE) if known.is_packed and wire == 2 else 1
                )
                if entries > known.most > 1:
                    raise InvalidInputError(
                        f"{known.name} has more than {known.most:,} entries, which is the limit; send several requests"
                    )
                if wire == 2 and known.is_string and length > MAX_NAME:
                    raise InvalidInputError(
                        f"{known.name} has {length:,} bytes, above the limit of {MAX_NAME:,} for a name"
                    )
                if wire == 2 and known.message is not None and position + length <= end:
                    self.check(known.message, position, position + length)
            position += length


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    """Return a number and the position after it; numbers that end early are left to the parser."""
    value = shift = 0
    for index in range(position, min(position + MAX_WIRE, len(raw))):
        byte = raw[index]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, index + 1
        shift += 7
    return 0, len(raw)


@cache
def _table(message: Descriptor, max_images: int) -> _Message:
    table = _Message()
    for each in message.fields:
        packable = each.cpp_type not in (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE)
        most = 1
        if each.is_repeated:
            most = max_images if each.full_name in _PER_IMAGE else _ENTRIES.get(each.full_name, MAX_ENTRIES)
        table.fields[each.number] = _Field(
            name=each.full_name.partition(".")[2] if each.full_name.startswith("inference.") else each.name,
            most=most,
            is_string=each.type == FieldDescriptor.TYPE_STRING,
            is_packed=packable and each.is_repeated,
            message=_table(each.message_type, max_images) if each.message_type is not None else None,
        )
    return table
