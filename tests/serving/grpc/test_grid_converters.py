"""Tests of Traverse and TransferAttributes with raw stubs: requests that our client does not send."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from PIL import Image

from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import EncodedImages, Images, PackedImages
from tests.bundles import COLOURED
from tests.processes import ServerProcess

MODEL = pb.ModelSelector(name="shapes")
PIXELS = COLOURED.random_images(2)
IMAGES = Images(packed=PackedImages(data=PIXELS.tobytes(), shape=PIXELS.shape))
PRIOR = pb.PriorDraw(seed=1)
Z = pb.ZDimensions()
HEART = pb.ClassChoices(items=[pb.ClassChoice(classes={"shape": "heart"})])
UNKNOWN: Any = 9


@pytest.fixture(scope="module")
def stub(two_model_server: ServerProcess) -> Iterator[PartedVAEServiceStub]:
    with grpc.insecure_channel(two_model_server.address) as channel:
        yield PartedVAEServiceStub(channel)


def test_zeros_mean_the_defaults(stub: PartedVAEServiceStub) -> None:
    """One base, all dimensions, nine columns from -2.5 to 2.5; the reply has model, classes and seed."""
    reply = stub.Traverse(pb.TraverseRequest(model=MODEL, prior=pb.PriorDraw(), z=Z))

    assert (reply.grid.rows, reply.grid.columns) == (5, 9)
    assert list(reply.grid.images.packed.shape) == [45, 10, 12, 3]
    assert [row.dimension for row in reply.rows] == list(range(5))
    assert (reply.rows[0].values[0], reply.rows[0].values[4], reply.rows[0].values[8]) == (-2.5, 0.0, 2.5)
    assert [factor.name for factor in reply.base_classes] == ["shape", "colour"]
    assert len(reply.base_classes[0].class_indices) == 1
    assert reply.HasField("seed")
    assert (reply.model.name, reply.model.version) == ("shapes", 1)


def test_grids_as_png_files(stub: PartedVAEServiceStub) -> None:
    """The same pixels, row by row."""
    request = pb.TransferAttributesRequest(model=MODEL, z_images=IMAGES, u_images=IMAGES)
    packed = stub.TransferAttributes(request)
    request.format = pb.IMAGE_FORMAT_PNG
    encoded = stub.TransferAttributes(request)

    pixels = np.frombuffer(packed.grid.images.packed.data, np.uint8).reshape(4, 10, 12, 3)
    files = [np.asarray(Image.open(io.BytesIO(item))) for item in encoded.grid.images.encoded.items]
    np.testing.assert_array_equal(files, pixels)
    assert (encoded.grid.rows, encoded.grid.columns) == (2, 2)


def field(number: int, message: Message) -> bytes:
    """Return a message as a field of another, on the wire."""
    content = message.SerializeToString()
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([length % 128 + 128, length // 128])
    return bytes([number << 3 | 2]) + size + content


@pytest.mark.parametrize("pairs", [False, True])
def test_messages_of_version_0_2_get_the_same_images(two_model_server: ServerProcess, pairs: bool) -> None:
    """Field 2 gives z and the rows, field 3 (images) or 4 (classes) gives u and the columns."""
    u_pixels = COLOURED.random_images(2, seed=1)
    u_images = Images(packed=PackedImages(data=u_pixels.tobytes(), shape=u_pixels.shape))
    encoded, other = COLOURED.encode(PIXELS), COLOURED.encode(u_pixels)
    u = np.concatenate([other["shape.u_mean"], other["colour.u_mean"]], axis=1)
    rows, columns = ([0, 1], [0, 1]) if pairs else ([0, 0, 1, 1], [0, 1, 0, 1])
    start = field(1, MODEL) + field(2, IMAGES)
    end = b"\x30\x02" if pairs else b""
    with grpc.insecure_channel(two_model_server.address) as channel:
        call = channel.unary_unary(
            "/partedvae.v1.PartedVAEService/TransferAttributes",
            request_serializer=bytes,
            response_deserializer=pb.TransferAttributesResponse.FromString,
        )
        of_images = call(start + field(3, u_images) + end)
        of_classes = call(start + field(4, pb.ClassChoices(items=[HEART.items[0]] * 2)) + end)

    grid = of_images.grid
    pixels = np.frombuffer(grid.images.packed.data, np.uint8).reshape(grid.images.packed.shape)
    expected = COLOURED.decode(u[columns], encoded["z_mean"][rows])
    assert (grid.rows, grid.columns) == (2, 1 if pairs else 2)
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    # Both columns are hearts, so that the images of a row are equal, and those of different rows are not.
    hearts = np.frombuffer(of_classes.grid.images.packed.data, np.uint8).reshape(2, -1, *PIXELS.shape[1:])
    np.testing.assert_array_equal(hearts, hearts[:, :1].repeat(hearts.shape[1], axis=1))
    assert (hearts[0] != hearts[1]).any()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.TraverseRequest(z=Z, prior=PRIOR), "there are several models; choose one of ['shapes', 'tiny']"),
        (pb.TraverseRequest(model=MODEL, z=Z), "no images: set"),
        (pb.TraverseRequest(model=MODEL, prior=PRIOR), "nothing to vary; set z, u or classes_of"),
        (
            pb.TraverseRequest(model=MODEL, prior=PRIOR, classes_of="shape", steps=3),
            "cannot be combined with classes_of",
        ),
        (pb.TraverseRequest(model=MODEL, prior=PRIOR, z=Z, reach=float("nan")), "a reach of nan is out of range"),
        (pb.TraverseRequest(model=MODEL, prior=PRIOR, z=Z, format=UNKNOWN), "format has the value 9"),
        (pb.TraverseRequest(model=MODEL, prior=pb.PriorDraw(count=2**32 - 1), z=Z), "4294967295 bases"),
        (pb.TraverseRequest(model=MODEL, prior=PRIOR, z=pb.ZDimensions(dimensions=[0] * 5000)), "5000 rows each"),
        (pb.TransferAttributesRequest(model=MODEL, z_images=IMAGES), "nothing gives u; set u_images or u_classes"),
        (pb.TransferAttributesRequest(model=MODEL, content=IMAGES), "nothing gives u; set u_images or u_classes"),
        (pb.TransferAttributesRequest(model=MODEL, u_classes=HEART), "no images give z; set z_images"),
        (pb.TransferAttributesRequest(model=MODEL, style_classes=HEART), "no images give z; set z_images"),
        (pb.TransferAttributesRequest(model=MODEL, z_images=Images(), u_classes=HEART), "no images: set"),
        (
            pb.TransferAttributesRequest(model=MODEL, content=IMAGES, style_classes=HEART, z_images=IMAGES),
            "the deprecated content and style_classes cannot be combined with z_images, u_images or u_classes; set "
            "z_images and u_classes instead",
        ),
        (
            pb.TransferAttributesRequest(model=MODEL, z_images=IMAGES, u_classes=HEART, factors=["shape"]),
            "factors ['shape'] cannot be combined with u_classes, which name their own; leave factors empty",
        ),
        (
            pb.TransferAttributesRequest(model=MODEL, content=IMAGES, style_classes=HEART, factors=["shape"]),
            "factors ['shape'] cannot be combined with style_classes, which name their own; leave factors empty",
        ),
        (
            pb.TransferAttributesRequest(model=MODEL, z_images=IMAGES, u_classes=HEART, layout=UNKNOWN),
            "layout has the value 9; choose one of ['TRANSFER_LAYOUT_GRID', 'TRANSFER_LAYOUT_PAIRS']",
        ),
        (
            pb.TransferAttributesRequest(
                model=MODEL, z_images=IMAGES, u_images=Images(encoded=EncodedImages(items=[b"%PDF-1.7"]))
            ),
            "image 0: PDF is not supported",
        ),
    ],
)
def test_bad_requests(stub: PartedVAEServiceStub, request_: Any, message: str) -> None:
    """INVALID_ARGUMENT, with the value and the remedy."""
    traverse = isinstance(request_, pb.TraverseRequest)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Traverse(request_) if traverse else stub.TransferAttributes(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in (caught.value.details() or "")
