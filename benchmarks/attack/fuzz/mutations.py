"""Mutations of requests: of fields, by their types, and of the encoded bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from benchmarks.attack.messages import field, tag, varint

INTEGERS = (
    0,
    1,
    2,
    -1,
    7,
    63,
    64,
    65,
    255,
    4096,
    4097,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**64 - 1,
    -(2**31),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "a",
    "\0",
    "1",
    "-1",
    "0x10",
    "digit",
    "images",
    "UINT8",
    "BYTES",
    "FP32",
    "attacked.encoder",
    "../../etc/passwd",
    "%s%n{0}",
    "é" * 100,
    "\u202e",
    "a" * 5000,
    "\n ERROR forged",
)
WIRE_TYPES = 8
MAX_REPEATS = 300
MAX_DEPTH = 40

Mutation = Callable[[random.Random, Message], None]


def mutated(rng: random.Random, seeds: Sequence[Message]) -> bytes:
    """Return an encoded request that differs from valid ones: up to three fields, or the bytes, or both."""
    message = _copy(rng.choice(seeds))
    for _ in range(rng.randrange(4)):
        # Values that do not fit their field are skipped: the encoded bytes have those.
        with suppress(ValueError, TypeError, OverflowError):
            rng.choice(FIELD_MUTATIONS)(rng, message)
    data = message.SerializeToString()
    if rng.random() < 0.6:
        data = rng.choice(BYTE_MUTATIONS)(rng, data)
    if rng.random() < 0.05:
        data += rng.choice(seeds).SerializeToString()
    return data


def _copy(message: Message) -> Message:
    made = type(message)()
    made.CopyFrom(message)
    return made


def _somewhere(rng: random.Random, message: Message) -> Message:
    """Return a message or one within it."""
    while rng.random() < 0.6:
        inner: list[Message] = []
        for each, value in message.ListFields():
            if each.message_type is None or each.message_type.GetOptions().map_entry:
                continue
            inner += list(value) if each.is_repeated else [value]
        if not inner:
            break
        message = rng.choice(inner)
    return message


def _value(rng: random.Random, each: FieldDescriptor) -> Any:
    """Return a boundary value of a field's type."""
    if each.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if each.type == FieldDescriptor.TYPE_BYTES:
            return rng.randbytes(rng.choice((0, 1, 13, 1000)))
        return rng.choice(TEXTS)
    if each.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if each.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    return rng.choice(INTEGERS)


def set_field(rng: random.Random, message: Message) -> None:
    """Set a field anywhere in a message to a boundary value."""
    where = _somewhere(rng, message)
    fields: Sequence[Any] = where.DESCRIPTOR.fields
    if not fields:
        return
    each = rng.choice(fields)
    current = getattr(where, each.name)
    if each.message_type is not None and each.message_type.GetOptions().map_entry:
        key, value = each.message_type.fields_by_name["key"], each.message_type.fields_by_name["value"]
        if value.message_type is None:
            current[_value(rng, key)] = _value(rng, value)
        else:
            current[_value(rng, key)].SetInParent()
    elif each.is_repeated:
        count = rng.choice((1, 1, 2, 5, MAX_REPEATS))
        for _ in range(count):
            if each.message_type is None:
                current.append(_value(rng, each))
            else:
                current.add()
    elif each.message_type is not None:
        current.SetInParent()
    else:
        setattr(where, each.name, _value(rng, each))


def clear_field(rng: random.Random, message: Message) -> None:
    """Clear a field anywhere in a message."""
    where = _somewhere(rng, message)
    if present := where.ListFields():
        where.ClearField(rng.choice(present)[0].name)


def repeat_elements(rng: random.Random, message: Message) -> None:
    """Repeat the elements of a field anywhere in a message."""
    where = _somewhere(rng, message)
    repeated = [value for each, value in where.ListFields() if each.is_repeated and hasattr(value, "extend")]
    if repeated:
        value = rng.choice(repeated)
        value.extend(list(value) * rng.choice((1, 2, 10)))


FIELD_MUTATIONS: tuple[Mutation, ...] = (set_field, set_field, set_field, clear_field, repeat_elements)


def truncate(rng: random.Random, data: bytes) -> bytes:
    """Cut the end."""
    return data[: rng.randrange(len(data) + 1)]


def flip(rng: random.Random, data: bytes) -> bytes:
    """Replace up to eight bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8) if changed else 0):
        # Most structure is at the beginning; pixels follow.
        changed[min(rng.randrange(len(changed)), rng.randrange(len(changed)))] = rng.randrange(256)
    return bytes(changed)


def insert(rng: random.Random, data: bytes) -> bytes:
    """Insert random bytes."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.randint(1, 20)) + data[place:]


def remove(rng: random.Random, data: bytes) -> bytes:
    """Remove some bytes."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place + rng.randint(1, 20) :]


def duplicate(_: random.Random, data: bytes) -> bytes:
    """Send a message twice in one."""
    return data + data


def swap_wire_type(rng: random.Random, data: bytes) -> bytes:
    """Change the type of the first field, so that its value is read as another type."""
    return bytes([data[0] & 0xF8 | rng.randrange(WIRE_TYPES)]) + data[1:] if data else data


def swap_number(rng: random.Random, data: bytes) -> bytes:
    """Change the number of the first field, so that its value is read as another field."""
    return bytes([rng.randint(1, 11) << 3 | data[0] & 7]) + data[1:] if data else data


def unknown_fields(rng: random.Random, data: bytes) -> bytes:
    """Append unknown fields of all wire types."""
    number = rng.choice((12, 1000, 2**29 - 1))
    kinds = (tag(number, 0) + varint(2**64 - 1), tag(number, 1) + bytes(8), field(number, rng.randbytes(20)))
    return data + rng.choice((*kinds, tag(number, 5) + bytes(4), tag(number, 3) + tag(number, 4), tag(number, 6))) * 3


def nest(rng: random.Random, data: bytes) -> bytes:
    """Wrap a message into fields of a number, below and above the depth that parsers accept."""
    number = rng.randint(1, 10)
    for _ in range(rng.choice((1, 3, MAX_DEPTH, 3 * MAX_DEPTH))):
        data = field(number, data)
    return data


def wrong_length(rng: random.Random, data: bytes) -> bytes:
    """Append a field that is longer than what follows."""
    return data + tag(rng.randint(1, 10)) + varint(rng.choice((1, 127, 2**31 - 1, 2**32 - 1, 2**63)))


def noise(rng: random.Random, _: bytes) -> bytes:
    """Replace everything."""
    return rng.randbytes(rng.choice((1, 10, 100, 5000)))


BYTE_MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    truncate,
    flip,
    flip,
    insert,
    remove,
    duplicate,
    swap_wire_type,
    swap_number,
    unknown_fields,
    nest,
    wrong_length,
    noise,
)
