"""Fields that are repeated millions of times, and names of megabytes: counts and lengths come first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.messages import VARINT, field, nearly_full, pixels, selector, tag
from benchmarks.attack.target import HEALTH, OPEN_INFERENCE, REFLECTION, SERVICE, Target
from partedvae.oip import inference_pb2 as oip
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.tensors_pb2 import Images

Request = tuple[str, bytes]

EMPTY = b"\0"
"""Length of an empty field."""
START_GROUP = 3


def repeated_fields(target: Target) -> list[Request]:
    """Return requests of the model's own service with as many elements as fit into a message."""
    model = field(1, selector(target).SerializeToString())
    image = pixels(target).SerializeToString()

    def in_message(*path: int, unit: bytes) -> bytes:
        value = nearly_full(target, unit)
        for number in reversed(path):
            value = field(number, value)
        return value

    transfer = model + field(8, image)
    entry = field(1, b"a") + field(2, b"b")
    one = tag(2, VARINT) + b"\1"
    return [
        (SERVICE + "TransferAttributes", transfer + in_message(10, unit=tag(1) + EMPTY)),  # u_classes.items
        (SERVICE + "TransferAttributes", transfer + in_message(4, unit=tag(1) + EMPTY)),  # style_classes.items
        (SERVICE + "TransferAttributes", transfer + field(9, image) + nearly_full(target, tag(5) + EMPTY)),  # factors
        (SERVICE + "Classify", model + in_message(2, 1, 2, unit=b"\1")),  # images.packed.shape, packed numbers
        (SERVICE + "Classify", model + in_message(2, 1, unit=tag(2, VARINT) + b"\1")),  # the same, a tag per number
        (SERVICE + "Classify", model + in_message(2, 2, unit=tag(1) + EMPTY)),  # images.encoded.items
        (SERVICE + "ExtractFeatures", model + field(2, image) + in_message(3, unit=b"\2")),  # include
        (SERVICE + "Traverse", model + field(3, b"") + in_message(4, 1, unit=b"\1")),  # z.dimensions
        (SERVICE + "Traverse", model + field(3, b"") + in_message(5, 2, unit=b"\1")),  # u.dimensions
        (SERVICE + "Generate", model + one + nearly_full(target, field(3, entry))),  # classes, one key
        (SERVICE + "Generate", model + many_keys(target, 3)),  # classes, another key each
        # The same message field again and again: the parser merges them.
        (SERVICE + "Classify", nearly_full(target, field(1, b"")) + field(2, image)),
    ]


def many_keys(target: Target, number: int, value: bytes = field(2, b"")) -> bytes:
    """Return a map field with as many different keys as fit into a message."""
    entry = len(field(number, field(1, bytes(7)) + value))
    count = len(nearly_full(target, bytes(entry))) // entry
    return b"".join(field(number, field(1, b"%07d" % key) + value) for key in range(count))


def long_names(target: Target) -> list[Request]:
    """Return requests with names of nearly the limit of a message: unknown ones are compared with the known ones."""
    known = f"{target.factor}.".encode()
    letters, similar = nearly_full(target, b"a").decode(), nearly_full(target, known).decode()
    control = nearly_full(target, b"\n").decode()
    image = pixels(target)
    messages = [
        ("GetModel", pb.GetModelRequest(model=pb.ModelSelector(name=letters))),
        ("GetModel", pb.GetModelRequest(model=pb.ModelSelector(name=control))),
        ("Generate", pb.GenerateRequest(model=selector(target), count=1, classes={similar: "1"})),
        ("Generate", pb.GenerateRequest(model=selector(target), count=1, classes={target.factor: similar})),
        ("Traverse", pb.TraverseRequest(model=selector(target), images=image, classes_of=letters)),
        ("TransferAttributes", pb.TransferAttributesRequest(z_images=image, u_images=image, factors=[similar])),
    ]
    return [(SERVICE + method, message.SerializeToString()) for method, message in messages]


def open_inference_fields(target: Target) -> list[Request]:
    """Return requests of the Open Inference Protocol with too many fields, or names that are too long."""
    name = f"{target.model}.encoder"
    model = field(1, name.encode())
    images = oip.ModelInferRequest.InferInputTensor(name="images", datatype="UINT8", shape=(1, *target.image_shape))
    text = nearly_full(target, b"a").decode()
    long_input = oip.ModelInferRequest(model_name=name)
    long_input.inputs.add(name=text, datatype="UINT8", shape=[1])
    bodies = [
        nearly_full(target, tag(5) + EMPTY),  # inputs
        field(5, images.SerializeToString()) + nearly_full(target, tag(6) + EMPTY),  # outputs
        field(5, images.SerializeToString()) + nearly_full(target, tag(7) + EMPTY),  # raw_input_contents
        many_keys(target, 4),  # parameters
        field(5, many_keys(target, 4)),  # inputs.parameters
        field(5, images.SerializeToString() + field(3, nearly_full(target, b"\1"))),  # inputs.shape
        field(5, images.SerializeToString() + field(5, field(1, nearly_full(target, b"\1")))),  # contents.bool_contents
        field(5, images.SerializeToString() + field(5, nearly_full(target, tag(8) + EMPTY))),  # contents.bytes_contents
    ]
    return [
        *((OPEN_INFERENCE + "ModelInfer", model + body) for body in bodies),
        (OPEN_INFERENCE + "ModelInfer", long_input.SerializeToString()),
        (OPEN_INFERENCE + "ModelInfer", oip.ModelInferRequest(model_name=text).SerializeToString()),
        (OPEN_INFERENCE + "ModelMetadata", oip.ModelMetadataRequest(name=name, version=text).SerializeToString()),
        (OPEN_INFERENCE + "ModelReady", oip.ModelReadyRequest(name=text).SerializeToString()),
    ]


def unknown_fields(target: Target) -> list[Request]:
    """Return requests with unknown fields, which parsers keep, and with nested ones."""
    nested = b""
    while len(nested) < min(100_000, target.max_message_bytes // 2):
        nested = field(2, nested)
    return [
        (SERVICE + "ListModels", nearly_full(target, tag(1000, VARINT) + b"\1")),
        (SERVICE + "ListModels", nearly_full(target, tag(1000) + EMPTY)),
        (SERVICE + "ListModels", nearly_full(target, tag(1000, START_GROUP))),
        (SERVICE + "Classify", nested),
        (OPEN_INFERENCE + "ServerLive", nearly_full(target, tag(1000) + EMPTY)),
        (OPEN_INFERENCE + "RepositoryIndex", field(1, nearly_full(target, b"a"))),
    ]


def without_token(target: Target) -> list[Request]:
    """Return requests of health, which needs no token, of up to 3 MiB: gRPC's clients send no more by default."""
    large = b"a" * min(target.max_message_bytes - 64, 3 << 20)
    return [
        (HEALTH + "Check", field(1, large)),
        (HEALTH + "Check", (tag(1000, VARINT) + b"\1") * (len(large) // 3)),
        (HEALTH + "Check", b"\xff" * len(large)),
    ]


async def _send_in_turn(run: AttackRun, build: Callable[[Target], Sequence[Request]]) -> None:
    requests = build(run.target)
    async with run.channel() as channel:
        for path, message in itertools.cycle(requests):
            await run.call(channel, path, message)


@attack("16 million empty style_classes.items in 32 MiB", options="default", before="6 GB, stuck for 31 s")
async def class_choices(run: AttackRun) -> None:
    """Send the costliest repeated field under the default limit of messages."""
    model = field(1, selector(run.target).SerializeToString())
    body = field(8, pixels(run.target).SerializeToString()) + field(4, (tag(1) + EMPTY) * (1 << 24))
    async with run.channel() as channel:
        while True:
            await run.call(channel, SERVICE + "TransferAttributes", model + body)


@attack("8 MiB of a repeated field or of map entries, twelve kinds", before="1.7 GB")
async def repeated_field(run: AttackRun) -> None:
    """Send each kind in turn."""
    await _send_in_turn(run, repeated_fields)


@attack("names of 60 MB: model, factor, class", options="default", before="3.3 GB, stuck for 11 s")
async def long_name(run: AttackRun) -> None:
    """Send each kind in turn."""
    await _send_in_turn(run, long_names)


@attack("ModelInfer with millions of inputs, outputs, parameters, contents; long names", before="1.7 GB")
async def open_inference_field(run: AttackRun) -> None:
    """Send each kind in turn."""
    await _send_in_turn(run, open_inference_fields)


@attack("8 MiB of unknown fields, unfinished groups and nested messages")
async def unknown_field(run: AttackRun) -> None:
    """Send each kind in turn."""
    await _send_in_turn(run, unknown_fields)


@attack("health requests of 3 MiB without a token: long names, unknown fields, garbage", options="tokens")
async def large_health_request(run: AttackRun) -> None:
    """Send each kind in turn, and large messages to reflection."""
    requests = without_token(run.target)
    async with run.channel() as channel:
        for path, message in itertools.cycle(requests):
            await run.call(channel, path, message)
            await run.stream(REFLECTION, [field(4, message), message])


@attack("packed.shape [2^32-1, 1, 1] with 13 bytes, 16 at a time", before="4 billion queued images")
async def huge_shape(run: AttackRun) -> None:
    """Claim billions of images: each is refused for its shape, and none takes the place of others in the queue."""
    requests = itertools.cycle(
        pb.ClassifyRequest(
            model=selector(run.target),
            images=Images(packed={"data": b"\1" * 13, "shape": shape}),  # type: ignore[arg-type]  # a dict is allowed
        ).SerializeToString()
        for shape in ((2**32 - 1, 1, 1), (2**32 - 1,) * 3, (2**32 - 1,) * 4, (2**31, 2**31, 2**31), (0, 1, 1))
    )
    async with run.channel() as channel:
        await run.repeat(16, lambda: run.call(channel, SERVICE + "Classify", next(requests)))
