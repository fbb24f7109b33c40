"""Tests of Decode with raw stubs, against real servers of both fronts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from partedvae.oip import inference_pb2 as oip
from partedvae.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from partedvae.results import ImageArray
from partedvae.serving import load
from partedvae.serving.images import decode
from partedvae.tensors import float_tensor
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import FloatTensor, Images
from tests.bundles import COLOURED, GREY
from tests.processes import ServerProcess, running_server

SHAPES = pb.ModelSelector(name="shapes")
U, Z = COLOURED.random_latents(7)


@pytest.fixture(scope="module")
def channel(two_model_server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(two_model_server.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> PartedVAEServiceStub:
    return PartedVAEServiceStub(channel)


def request(u: Any = U, z: Any = Z, **fields: Any) -> pb.DecodeRequest:
    tensors = [tensor if isinstance(tensor, FloatTensor) else float_tensor(tensor) for tensor in (u, z)]
    return pb.DecodeRequest(model=SHAPES, u=tensors[0], z=tensors[1], **fields)


def pixels(images: Images) -> ImageArray:
    return np.frombuffer(images.packed.data, np.uint8).reshape(images.packed.shape)


def test_images_are_those_of_the_model(stub: PartedVAEServiceStub, two_models: Path) -> None:
    """Bit for bit those of the same model in this process; within rounding those of NumPy."""
    response = stub.Decode(request())
    images = pixels(response.images)
    assert (response.model.name, response.model.version) == ("shapes", 1)
    assert np.abs(images.astype(int) - COLOURED.decode(U, Z)).max() <= 1
    np.testing.assert_array_equal(images, load(two_models / "shapes").decode(U, Z))


def test_images_are_those_of_the_open_inference_protocol(stub: PartedVAEServiceStub, channel: grpc.Channel) -> None:
    """Bit for bit those of "shapes.decoder"."""
    infer = oip.ModelInferRequest(model_name="shapes.decoder", raw_input_contents=[U.tobytes(), Z.tobytes()])
    infer.inputs.add(name="u", datatype="FP32", shape=U.shape)
    infer.inputs.add(name="z", datatype="FP32", shape=Z.shape)
    reply = GRPCInferenceServiceStub(channel).ModelInfer(infer)
    assert stub.Decode(request()).images.packed.data == reply.raw_output_contents[0]


def test_png_files_have_the_same_pixels(stub: PartedVAEServiceStub) -> None:
    files = stub.Decode(request(format=pb.IMAGE_FORMAT_PNG)).images.encoded.items
    np.testing.assert_array_equal(decode(files, COLOURED.manifest().image), pixels(stub.Decode(request()).images))


MANY = np.zeros((101, 8), np.float32)
NAN = np.where(Z[3, 1] == Z, np.float32("nan"), Z)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (pb.DecodeRequest(model=SHAPES), INVALID, "u is missing; send float32 [images, 3] (shape 2, colour 1)"),
        (pb.DecodeRequest(model=SHAPES, u=float_tensor(U)), INVALID, "z is missing; send float32 [images, 5]"),
        (request(u=U[0]), INVALID, "u has the shape [3]; it must be [images, 3] (shape 2, colour 1)"),
        (request(u=U[:, :2]), INVALID, "u has the shape [7, 2]; it must be [images, 3] (shape 2, colour 1)"),
        (request(z=Z[:, :, None]), INVALID, "z has the shape [7, 5, 1]; it must be [images, 5]"),
        (request(z=Z[:6]), INVALID, "u has 7 rows and z has 6; each needs one row per image"),
        (request(U[:0], Z[:0]), INVALID, "u and z have no rows; pass those of at least one image"),
        (
            request(z=FloatTensor(shape=[7, 5], data=Z.tobytes()[:-1])),
            INVALID,
            "z has 139 bytes; float32 of the shape [7, 5] has 140, and the shape must be [images, 5]",
        ),
        (
            request(u=FloatTensor(shape=[2**32 - 1, 2**32 - 1])),
            INVALID,
            "u has 0 bytes; float32 of the shape [4294967295, 4294967295] has 73,786,976,260,478,468,100",
        ),
        (
            request(u=FloatTensor(shape=[0, 2**32 - 1])),
            INVALID,
            "u has the shape [0, 4294967295]; it must be [images, 3] (shape 2, colour 1)",
        ),
        (
            request(u=FloatTensor(shape=[1] * 3000, data=b"1234")),
            INVALID,
            "u has the shape [1, 1, 1, 1, 1, 1, 1, 1]; it must be [images, 3]",
        ),
        (request(z=NAN), INVALID, "dimension 1 of z of image 3 is nan; it must be a finite float32"),
        (
            request(MANY[:, :3], MANY[:, :5]),
            INVALID,
            "u and z of 101 images are above the limit of 100 per request; send several requests",
        ),
        (request(format=pb.ImageFormat.ValueType(7)), INVALID, "format has the value 7"),
        (
            pb.DecodeRequest(model=pb.ModelSelector(name="shape"), u=float_tensor(U), z=float_tensor(Z)),
            grpc.StatusCode.NOT_FOUND,
            "did you mean 'shapes'?",
        ),
        (
            request(u=FloatTensor(data=bytes(16 * 1024 * 1024))),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "bytes, above the limit of 16,777,216; send fewer images per request",
        ),
    ],
)
def test_invalid_requests(
    stub: PartedVAEServiceStub, request_: pb.DecodeRequest, code: grpc.StatusCode, message: str
) -> None:
    """The status names the field and the shape that the model needs; later requests succeed."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.Decode(request_)
    assert caught.value.code() == code
    assert message in (caught.value.details() or "")
    assert len(pixels(stub.Decode(request()).images)) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("each_front")
def test_a_reply_that_would_be_too_large(tmp_path: Path) -> None:
    """The error has the number of images that fit; that many can be decoded."""
    GREY.write(tmp_path / "tiny")
    u, z = GREY.random_latents(30_000)
    with (
        running_server(tmp_path, "--max-message-mb", "1", "--max-images", "100000") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = PartedVAEServiceStub(channel)
        message = "30000 images of 48 bytes are above the limit of 1,048,576 bytes per message; request at most 21845"
        with pytest.raises(grpc.RpcError, match=re.escape(message)) as caught:
            stub.Decode(pb.DecodeRequest(u=float_tensor(u), z=float_tensor(z)))
        assert caught.value.code() == INVALID
        most = stub.Decode(pb.DecodeRequest(u=float_tensor(u[:21_000]), z=float_tensor(z[:21_000]))).images
    assert np.abs(pixels(most).astype(int) - GREY.decode(u[:21_000], z[:21_000])).max() <= 1
