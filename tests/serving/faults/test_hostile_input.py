"""Hostile bytes: garbage, bombs, truncated files, and ten thousand mutations of valid requests."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from partedvae.oip import inference_pb2 as oip
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import EncodedImages, Images
from tests.bundles import GREY
from tests.processes import ServerProcess
from tests.serving.faults.support import (
    assert_features,
    decode_request,
    features_request,
    images_message,
)
from tests.serving.hostile_files import jpeg_with_wrong_exif

SERVICE, OPEN_INFERENCE = "/partedvae.v1.PartedVAEService/", "/inference.GRPCInferenceService/"
GARBAGE = random.Random(0).randbytes(8 * 1024 * 1024)


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def image_file(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY.random_images(1)[0, ..., 0]).resize((64, 64)).save(file, kind)
    return file.getvalue()


def png_bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few kilobytes that really contains a large number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compressor = zlib.compressobj(9)
    row = b"\0" * (1 + width)
    rows = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def refusal(channel: grpc.Channel, *files: bytes) -> str:
    """Send files that must be rejected with INVALID_ARGUMENT, and return the message."""
    request = pb.ExtractFeaturesRequest(images=Images(encoded=EncodedImages(items=files)))
    with pytest.raises(grpc.RpcError) as caught:
        PartedVAEServiceStub(channel).ExtractFeatures(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


def test_garbage_in_place_of_an_image(channel: grpc.Channel) -> None:
    """Eight megabytes of noise are not an image."""
    assert "image 0: not an image (it starts with" in refusal(channel, GARBAGE)


def test_garbage_in_place_of_a_message(channel: grpc.Channel) -> None:
    """Eight megabytes of noise are rejected as a malformed request rather than with INTERNAL."""
    assert send(channel, "ExtractFeatures", GARBAGE).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_png_bomb(channel: grpc.Channel) -> None:
    """A small file with 64 million pixels is rejected by its header, before anything is decoded."""
    bomb = png_bomb(8_000, 8_000)
    assert len(bomb) < 100_000
    reason = refusal(channel, image_file("PNG"), bomb)
    assert "image 1: 8000x8000 pixels are above the limit of 25,000,000: make the image smaller" in reason


def test_truncated_jpeg(channel: grpc.Channel) -> None:
    """A truncated JPEG is reported as damaged, with its index in the batch."""
    whole = image_file("JPEG")
    assert "image 1: damaged JPEG file: " in refusal(channel, whole, whole[: len(whole) // 2])


def test_warnings_of_pillow_are_not_written(channel: grpc.Channel, server: ServerProcess) -> None:
    """To stderr, where the server logs."""
    request = pb.ExtractFeaturesRequest(images=Images(encoded=EncodedImages(items=[jpeg_with_wrong_exif()])))
    assert PartedVAEServiceStub(channel).ExtractFeatures(request).model.name == "tiny"
    log = server.log_file.read_text()
    assert "Warning" not in log
    assert "PIL" not in log


def infer_request(datatype: str, shape: Sequence[int], raw: bytes) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="tiny.encoder", raw_input_contents=[raw])
    request.inputs.add(name="images", datatype=datatype, shape=shape)
    return request


FILE = image_file("PNG")
VALID: Sequence[tuple[str, Message]] = [
    ("ListModels", pb.ListModelsRequest()),
    ("GetModel", pb.GetModelRequest(model=pb.ModelSelector(name="tiny", version=1))),
    ("ExtractFeatures", features_request(2)),
    (
        "ExtractFeatures",
        pb.ExtractFeaturesRequest(
            model=pb.ModelSelector(name="tiny"),
            images=Images(encoded=EncodedImages(items=[image_file("PNG"), image_file("JPEG"), image_file("WEBP")])),
            include=[pb.FEATURE_OUTPUT_PROBS, pb.FEATURE_OUTPUT_Z_MEAN],
        ),
    ),
    ("Classify", pb.ClassifyRequest(images=images_message(3))),
    ("Generate", pb.GenerateRequest(count=3, classes={"digit": "7"}, seed=5, format=pb.IMAGE_FORMAT_PNG)),
    ("Reconstruct", pb.ReconstructRequest(images=images_message(2))),
    ("Decode", decode_request(2)),
    ("Traverse", pb.TraverseRequest(images=images_message(1), classes_of="digit")),
    ("Traverse", pb.TraverseRequest(prior=pb.PriorDraw(count=1, seed=3), z=pb.ZDimensions(), steps=3)),
    (
        "TransferAttributes",
        pb.TransferAttributesRequest(z_images=images_message(2), u_images=images_message(2, seed=1)),
    ),
    ("StreamFeatures", pb.StreamFeaturesRequest(images=images_message(2))),
    (OPEN_INFERENCE + "ModelMetadata", oip.ModelMetadataRequest(name="tiny.encoder", version="1")),
    (OPEN_INFERENCE + "ModelInfer", infer_request("UINT8", [2, 8, 6, 1], GREY.random_images(2).tobytes())),
    (OPEN_INFERENCE + "ModelInfer", infer_request("BYTES", [1], struct.pack("<I", len(FILE)) + FILE)),
]
EXAMPLES, MUTANTS = 60, 50
"""Three thousand mutations in total; `make fuzz` tries more."""

Edit = tuple[str, float, int]
EDITS = ("flip", "set", "insert", "delete", "truncate", "repeat", "swap")
edit = st.tuples(st.sampled_from(EDITS), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
mutant = st.tuples(st.integers(0, len(VALID) - 1), st.lists(edit, min_size=1, max_size=4))


def mutate(message: bytes, edits: Sequence[Edit]) -> bytes:
    """Change some bytes. Positions are fractions of the length, squared to hit fields more often than pixels."""
    data = bytearray(message)
    for kind, where, value in edits:
        at = int(where**2 * len(data))
        match kind:
            case "flip" if data:
                data[at] ^= 1 << value % 8
            case "set" if data:
                data[at] = value
            case "insert":
                data[at:at] = bytes([value]) * (1 + value % 7)
            case "delete":
                del data[at : at + 1 + value % 16]
            case "truncate":
                del data[at:]
            case "repeat":
                data[at:at] = data[at : at + 1 + value]
            case "swap":
                data[at:] = data[at + value % 32 :] + data[at : at + value % 32]
    return bytes(data)


ALLOWED = {
    grpc.StatusCode.OK,  # A pixel or an unknown field was changed.
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,  # Scores of a model without a scorer.
}


def send(channel: grpc.Channel, method: str, data: bytes) -> Any:
    """Start a call with raw bytes; `code()` and `details()` of the result wait for its end."""
    caller: Any
    if method == "StreamFeatures":
        caller = channel.stream_stream(SERVICE + method, None, None)
        return caller(iter([data]))
    caller = channel.unary_unary(method if method.startswith("/") else SERVICE + method, None, None)
    return caller.future(data)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_mutations(channel: grpc.Channel, server: ServerProcess) -> None:
    """Mutated requests succeed or are rejected; none causes INTERNAL or a crash."""
    codes: Counter[grpc.StatusCode] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(mutant, min_size=MUTANTS, max_size=MUTANTS))
    def attack(mutants: list[tuple[int, list[Edit]]]) -> None:
        messages = [(VALID[k][0], mutate(VALID[k][1].SerializeToString(), edits)) for k, edits in mutants]
        calls = [send(channel, method, data) for method, data in messages]
        for (method, data), call in zip(messages, calls, strict=True):
            if method == "StreamFeatures":  # Its status follows its replies.
                with suppress(grpc.RpcError):
                    list(call)
            code = call.code()
            codes[code] += 1
            assert code in ALLOWED, f"{method} {code.name}: {call.details()}\n{data.hex()}"

    attack()
    assert codes.total() >= EXAMPLES * MUTANTS
    assert codes[grpc.StatusCode.OK] > 0
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > 0
    assert server.process.poll() is None
    assert "Traceback" not in server.log_file.read_text()
    assert_features(PartedVAEServiceStub(channel).ExtractFeatures(features_request(3)), 3)
