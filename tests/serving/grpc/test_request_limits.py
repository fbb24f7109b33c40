"""Tests of `partedvae.serving.grpc.request_limits`: serialized requests of every type, valid, hostile and damaged."""

from __future__ import annotations

import random
import re
import zlib
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from partedvae.oip import inference_pb2 as oip
from partedvae.serving.errors import InvalidInputError, MessageTooLargeError
from partedvae.serving.grpc.request_limits import SMALL, check_fields, holds_images, inflate, largest_size
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.tensors_pb2 import EncodedImages, FloatTensor, Images, PackedImages

MAX_IMAGES = 50
MAX_FIELDS = 4 * MAX_IMAGES + 4096
LIMIT = 1_000_000

REQUESTS: list[Descriptor] = [
    method.input_type
    for file in (pb.DESCRIPTOR, oip.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
]
REQUESTS += [HealthCheckRequest.DESCRIPTOR, ServerReflectionRequest.DESCRIPTOR]

OTHER_THAN_GRPC = (InvalidInputError, MessageTooLargeError)


def name_of(descriptor: Any) -> str:
    return str(descriptor.name) if isinstance(descriptor, Descriptor) else ""


def value(field: Any, source: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return "x" * source.choice((0, 1, 100, 1024))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return source.randbytes(source.choice((0, 1, 100, 5000)))
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return source.random()
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return source.choice([each.number for each in field.enum_type.values])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return source.random() < 0.5
    return source.choice((0, 1, 2**31 - 1))


def fill(message: Message, source: random.Random) -> None:
    """Set random fields of a message to valid values."""
    for field in message.DESCRIPTOR.fields:
        if source.random() < 0.3:
            continue
        attribute: Any = getattr(message, field.name)
        if field.is_repeated:
            for number in range(source.choice((1, 3, 8))):
                if field.message_type is None:
                    attribute.append(value(field, source))
                elif field.message_type.GetOptions().map_entry:
                    entry = field.message_type.fields_by_name["value"]
                    if entry.message_type is None:
                        attribute[f"key {number}"] = value(entry, source)
                    else:
                        fill(attribute[f"key {number}"], source)
                else:
                    fill(attribute.add(), source)
        elif field.message_type is not None:
            attribute.SetInParent()
            fill(attribute, source)
        else:
            setattr(message, field.name, value(field, source))


@pytest.mark.parametrize("descriptor", REQUESTS, ids=name_of)
def test_valid_requests_pass(descriptor: Descriptor) -> None:
    """Random requests of every type pass all checks unchanged, compressed or not."""
    source = random.Random(7)
    for _ in range(30):
        message = GetMessageClass(descriptor)()
        fill(message, source)
        raw = message.SerializeToString()
        assert inflate(raw, LIMIT, takes_images=True) is raw
        assert largest_size(raw) == len(raw)
        assert check_fields(raw, descriptor, MAX_IMAGES)
        for compressed in (zlib.compress(raw), zlib.compress(raw, wbits=31)):
            assert inflate(compressed, LIMIT, takes_images=True) == raw
            assert len(raw) <= largest_size(compressed)


@pytest.mark.parametrize("descriptor", REQUESTS, ids=name_of)
def test_damaged_requests(descriptor: Descriptor) -> None:
    """Truncated, changed and random bytes raise nothing but the errors of requests; the parser judges the rest."""
    source = random.Random(8)
    factory = GetMessageClass(descriptor)
    for _ in range(50):
        message = factory()
        fill(message, source)
        raw = bytearray(message.SerializeToString() * 3 + source.randbytes(SMALL + 100))
        for _ in range(source.randrange(5)):
            raw[source.randrange(len(raw))] = source.randrange(256)
        damaged = bytes(raw[source.randrange(8) : source.randrange(SMALL, len(raw))])
        for data in (damaged, source.randbytes(2 * SMALL), b"\xff" * SMALL, b"\x80" * SMALL):
            try:
                inflated = inflate(data, LIMIT, takes_images=True)
                check_fields(inflated, descriptor, MAX_IMAGES)
                factory.FromString(inflated)
            except (*OTHER_THAN_GRPC, DecodeError):
                pass


def packed(shape: int) -> pb.ClassifyRequest:
    return pb.ClassifyRequest(images=Images(packed=PackedImages(data=bytes(SMALL), shape=[1] * shape)))


def encoded(count: int) -> pb.ClassifyRequest:
    return pb.ClassifyRequest(images=Images(encoded=EncodedImages(items=[b"x" * 100] * count)))


def inferred(**contents: Any) -> oip.ModelInferRequest:
    return oip.ModelInferRequest(
        inputs=[
            oip.ModelInferRequest.InferInputTensor(
                name="x" * 1024, shape=[1, 2, 3], contents=oip.InferTensorContents(**contents)
            )
        ],
        raw_input_contents=[bytes(SMALL)],
    )


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (encoded(MAX_IMAGES), None),
        (encoded(MAX_IMAGES + 1), "items has more than 50 entries, which is the limit; send several requests"),
        (packed(80), None),  # Ten bytes per number are assumed.
        (packed(81), "shape has more than 8 entries, which is the limit; send several requests"),
        (
            pb.DecodeRequest(u=FloatTensor(data=bytes(SMALL), shape=[1] * 81)),
            "shape has more than 8 entries, which is the limit; send several requests",
        ),
        (
            pb.ExtractFeaturesRequest(
                model=pb.ModelSelector(name="é" * 513), images=Images(packed=PackedImages(data=bytes(SMALL)))
            ),
            "name has 1,026 bytes, above the limit of 1,024 for a name",
        ),
        (
            pb.ExtractFeaturesRequest(include=[pb.FEATURE_OUTPUT_PROBS] * 20_000),
            "include has more than 1,024 entries, which is the limit; send several requests",
        ),
        (
            pb.TransferAttributesRequest(factors=["x" * 5000]),
            "factors has 5,000 bytes, above the limit of 1,024 for a name",
        ),
        (inferred(fp32_contents=[0.5] * 100_000), None),
        (inferred(bytes_contents=[b"x"] * MAX_IMAGES), None),
        (
            inferred(bytes_contents=[b"x"] * (MAX_IMAGES + 1)),
            "InferTensorContents.bytes_contents has more than 50 entries, which is the limit; send several requests",
        ),
        (
            oip.ModelInferRequest(raw_input_contents=[bytes(500)] * 17),
            "ModelInferRequest.raw_input_contents has more than 16 entries, which is the limit; send several requests",
        ),
        (
            oip.ModelInferRequest(
                inputs=[oip.ModelInferRequest.InferInputTensor(name=f"input {number}") for number in range(1025)]
            ),
            "ModelInferRequest.inputs has more than 1,024 entries, which is the limit; send several requests",
        ),
        (
            oip.ModelInferRequest(parameters={f"key {n}": oip.InferParameter(bool_param=True) for n in range(1100)}),
            "ModelInferRequest.parameters has more than 1,024 entries, which is the limit; send several requests",
        ),
        (
            oip.ModelInferRequest(parameters={"k" * 5000: oip.InferParameter(bool_param=True)}),
            "ModelInferRequest.ParametersEntry.key has 5,000 bytes, above the limit of 1,024 for a name",
        ),
    ],
)
def test_limits(request_: Message, error: str | None) -> None:
    """Each limit has its message, and what is at the limit passes."""
    raw = request_.SerializeToString()
    descriptor: Any = request_.DESCRIPTOR
    assert len(raw) >= SMALL
    if error is None:
        assert check_fields(raw, descriptor, MAX_IMAGES)
    else:
        with pytest.raises(InvalidInputError, match=f"^{re.escape(error)}$"):
            check_fields(raw, descriptor, MAX_IMAGES)


@pytest.mark.parametrize(
    "field",
    [
        b"\x78\x00",  # Number 15 and the value 0, unknown.
        b"\xfa\x80\x80\x80\x80\x80\x80\x80\x80\x00\x80\x80\x00",  # Overlong numbers, and no bytes.
        b"\x0a\x00",  # The model, which has no fields.
        b"\x12\x02\x12\x00",  # Images with an empty `encoded`.
    ],
    ids=["unknown", "overlong", "message", "nested"],
)
def test_number_of_fields(field: bytes) -> None:
    """Fields are counted whether they are known or not, those of nested messages too; a check can end before."""
    many = field * (MAX_FIELDS + 1)
    error = "the request has more than 4,296 fields, which is the limit; send several requests"
    with pytest.raises(InvalidInputError, match=f"^{re.escape(error)}$"):
        check_fields(many, pb.ClassifyRequest.DESCRIPTOR, MAX_IMAGES)
    assert not check_fields(many, pb.ClassifyRequest.DESCRIPTOR, MAX_IMAGES, 1000)
    few = field * 500 + b"\x7a\xa0\x1f" + bytes(4000)
    assert check_fields(few, pb.ClassifyRequest.DESCRIPTOR, MAX_IMAGES, 1002)


def test_groups() -> None:
    """Groups nest without a length, and no request has them."""
    with pytest.raises(InvalidInputError, match="a field of type group, which no version of protobuf 3 has"):
        check_fields(b"\x0b" * SMALL, pb.ClassifyRequest.DESCRIPTOR, MAX_IMAGES)


def test_which_requests_hold_images() -> None:
    """Only these types may be large."""
    large = {descriptor.name for descriptor in REQUESTS if holds_images(descriptor)}
    assert large == {
        "ExtractFeaturesRequest",
        "StreamFeaturesRequest",
        "ClassifyRequest",
        "ReconstructRequest",
        "DecodeRequest",
        "TraverseRequest",
        "TransferAttributesRequest",
        "ModelInferRequest",
    }


def test_no_request_begins_like_a_compressed_one() -> None:
    """The first byte of gzip is a field of an invalid type, that of deflate field 15, which no request may have."""
    assert 0x1F & 7 == 7
    assert 0x78 >> 3 == 15
    assert [d.full_name for d in REQUESTS if 15 in d.fields_by_number] == []


@pytest.mark.parametrize("wbits", [15, 31], ids=["deflate", "gzip"])
class TestCompressed:
    """Both formats that gRPC's clients send."""

    def test_up_to_the_limit(self, wbits: int) -> None:
        raw = bytes(LIMIT)
        assert inflate(zlib.compress(raw, wbits=wbits), LIMIT, takes_images=True) == raw

    @pytest.mark.parametrize(
        ("takes_images", "remedy"),
        [
            (True, "send fewer images per request, or start the server with a larger --max-message-mb"),
            (False, "make it smaller; only requests with images may be larger"),
        ],
    )
    def test_above_the_limit(self, wbits: int, takes_images: bool, remedy: str) -> None:
        error = f"the request has more than 1,000,000 bytes, above the limit of 1,000,000; {remedy}"
        for size in (LIMIT + 1, 20 * LIMIT):
            with pytest.raises(MessageTooLargeError, match=f"^{re.escape(error)}$"):
                inflate(zlib.compress(bytes(size), wbits=wbits), LIMIT, takes_images=takes_images)

    def test_truncated(self, wbits: int) -> None:
        compressed = zlib.compress(random.Random(1).randbytes(1000), wbits=wbits)
        for length in (2, 20, len(compressed) - 1):
            with pytest.raises(InvalidInputError, match=r"^the compressed request is not complete$"):
                inflate(compressed[:length], LIMIT, takes_images=True)

    def test_damaged(self, wbits: int) -> None:
        compressed = bytearray(zlib.compress(random.Random(1).randbytes(1000), wbits=wbits))
        compressed[-3] ^= 1  # A byte of the checksum or the size.
        with pytest.raises(
            InvalidInputError,
            match=r"^the compressed request (cannot be decompressed: Error -3|has more than the 744 bytes)",
        ):
            inflate(bytes(compressed), LIMIT, takes_images=True)

    def test_trailing_bytes(self, wbits: int) -> None:
        """What follows the compressed message is not a part of it."""
        with pytest.raises(InvalidInputError, match=r"^the compressed request has 9 bytes after its end$"):
            inflate(zlib.compress(b"request", wbits=wbits) + b"something", LIMIT, takes_images=True)

    def test_largest_size(self, wbits: int) -> None:
        """No message becomes larger than it is said to."""
        for size in (0, 1, 1000, 10_000_000):
            assert largest_size(zlib.compress(bytes(size), 9, wbits)) >= size
