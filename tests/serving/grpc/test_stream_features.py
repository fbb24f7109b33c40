"""Tests of StreamFeatures, with raw stubs against a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from partedvae.results import ImageArray
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import EncodedImages, FloatTensor, Images, PackedImages
from tests.bundles import COLOURED, GREY
from tests.processes import PATIENCE, ServerProcess, running_server, wait_until
from tests.serving.gated_server import LARGE
from tests.serving.pictures import file_of, noise

TINY = pb.ModelSelector(name="tiny")
PNG, JPEG = file_of(noise()), file_of(noise(), "JPEG")


@pytest.fixture(scope="module")
def stub(two_model_server: ServerProcess) -> Iterator[PartedVAEServiceStub]:
    """Return a stub for a server with `tiny` 1 and 2 and `shapes`, and a limit of 100 images."""
    with grpc.insecure_channel(two_model_server.address) as channel:
        yield PartedVAEServiceStub(channel)


def packed(images: ImageArray) -> Images:
    return Images(packed=PackedImages(data=images.tobytes(), shape=images.shape))


def encoded(*files: bytes) -> Images:
    return Images(encoded=EncodedImages(items=files))


def floats(tensor: FloatTensor) -> np.ndarray:
    return np.frombuffer(tensor.data, "<f4").reshape(tuple(tensor.shape))


def chunks(
    *images: Images, model: pb.ModelSelector = TINY, include: Iterable[int] = ()
) -> Iterator[pb.StreamFeaturesRequest]:
    """Yield one request per chunk; the first has model and outputs."""
    for k, chunk in enumerate(images):
        first = k == 0
        yield pb.StreamFeaturesRequest(
            model=model if first else None,
            include=[pb.FeatureOutput.ValueType(value) for value in include] if first else [],
            images=chunk,
        )


def test_order(stub: PartedVAEServiceStub) -> None:
    """Chunks of any size get their replies in order, from the model of the first request."""
    batches = [COLOURED.random_images(1 + 17 * k % 100, k) for k in range(30)]
    shapes = pb.ModelSelector(name="shapes")
    include = [pb.FEATURE_OUTPUT_Z_MEAN]
    replies = list(stub.StreamFeatures(chunks(*map(packed, batches), model=shapes, include=include)))
    assert len(replies) == len(batches)
    for batch, reply in zip(batches, replies, strict=True):
        assert reply.features.model == pb.ModelVersion(name="shapes", version=1)
        assert list(reply.errors) == []
        assert not reply.features.factors[0].HasField("probs")
        np.testing.assert_allclose(floats(reply.features.z_mean), COLOURED.encode(batch)["z_mean"], atol=1e-5)


def test_images_that_cannot_be_used(stub: PartedVAEServiceStub) -> None:
    """Each image that cannot be used is reported with its index; the other images of the chunk get their features."""
    requests = chunks(encoded(PNG, b"hello", JPEG, JPEG[:-200], PNG), encoded(b""), encoded(PNG))
    mixed, none, good = stub.StreamFeatures(requests)
    assert [error.index for error in mixed.errors] == [1, 3]
    assert mixed.errors[0].reason.startswith("not an image (it starts with b'hello')")
    assert mixed.errors[1].reason.startswith("damaged JPEG file")
    probs = floats(mixed.features.factors[0].probs)
    assert probs.shape == (3, 10)
    np.testing.assert_allclose(probs[2], probs[0], rtol=0, atol=1e-6)
    assert not none.HasField("features")
    assert [(error.index, error.reason) for error in none.errors] == [
        (0, "no bytes: send a PNG, JPEG, WebP, BMP, TIFF or GIF file")
    ]
    assert list(good.errors) == []
    np.testing.assert_allclose(floats(good.features.factors[0].probs), probs[:1], rtol=0, atol=1e-6)


def test_an_empty_stream(stub: PartedVAEServiceStub) -> None:
    """A stream without requests has no replies."""
    assert list(stub.StreamFeatures(iter(()))) == []


@pytest.mark.parametrize(
    ("requests", "code", "message"),
    [
        (
            [pb.StreamFeaturesRequest(model=pb.ModelSelector(name="tinny"))],
            grpc.StatusCode.NOT_FOUND,
            "no model is named 'tinny'",
        ),
        (
            [pb.StreamFeaturesRequest(model=TINY, include=[pb.FeatureOutput.ValueType(99)])],
            grpc.StatusCode.INVALID_ARGUMENT,
            "include has the value 99",
        ),
        ([pb.StreamFeaturesRequest(model=TINY)], grpc.StatusCode.INVALID_ARGUMENT, "no images: set images.packed"),
        (
            [pb.StreamFeaturesRequest(model=TINY, images=packed(GREY.random_images(101)))],
            grpc.StatusCode.INVALID_ARGUMENT,
            "101 images are above the limit of 100",
        ),
    ],
)
def test_streams_that_cannot_begin(
    stub: PartedVAEServiceStub, requests: list[pb.StreamFeaturesRequest], code: grpc.StatusCode, message: str
) -> None:
    """An invalid first request ends the stream."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.StreamFeatures(iter(requests)))
    assert (caught.value.code(), message in (caught.value.details() or "")) == (code, True)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"model": pb.ModelSelector(name="shapes")}, "a later chunk of the stream has another model than the first"),
        ({"include": [pb.FEATURE_OUTPUT_Z_MEAN]}, "a later chunk of the stream has another include than the first"),
    ],
)
def test_streams_of_two_minds(stub: PartedVAEServiceStub, second: dict[str, object], message: str) -> None:
    """A later request may repeat model and outputs of the first but not change them; the first gets its reply."""
    images = packed(GREY.random_images(2))
    include = [pb.FEATURE_OUTPUT_PROBS]
    first = pb.StreamFeaturesRequest(model=TINY, include=include, images=images)
    assert len(list(stub.StreamFeatures(iter([first, first])))) == 2
    replies = stub.StreamFeatures(iter([first, pb.StreamFeaturesRequest(images=images, **second)]))  # type: ignore[arg-type]  # keyword arguments
    assert next(replies).features.factors[0].HasField("probs")
    with pytest.raises(grpc.RpcError) as caught:
        next(replies)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in (caught.value.details() or "")


@pytest.mark.slow
def test_streams_wait_where_unary_calls_are_refused(tiny_models: Path, tmp_path: Path) -> None:
    """With a queue of four images, two concurrent long streams get all their replies."""
    with (
        running_server(tiny_models, "--max-queue-rows", "4") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = PartedVAEServiceStub(channel)
        batches = [GREY.random_images(3, seed) for seed in range(40)]
        streams = [stub.StreamFeatures(chunks(*map(packed, batches))) for _ in range(2)]
        for replies in map(list, streams):
            for batch, reply in zip(batches, replies, strict=True):
                probs = floats(reply.features.factors[0].probs)
                np.testing.assert_allclose(probs, GREY.encode(batch)["digit.probs"], atol=1e-5)


@pytest.mark.slow
def test_sigterm_mid_stream(tiny_models: Path, tmp_path: Path) -> None:
    """After SIGTERM the chunks that were read get replies, the stream ends with UNAVAILABLE, and the exit code is 0."""
    program = ("-m", "tests.serving.gated_server", str(tmp_path))
    with running_server(tiny_models, program=program) as server, grpc.insecure_channel(server.address) as channel:
        answered, done = threading.Event(), threading.Event()

        def requests() -> Iterator[pb.StreamFeaturesRequest]:
            small, large = chunks(packed(GREY.random_images(2)), packed(GREY.random_images(LARGE)))
            yield small
            answered.wait(PATIENCE)  # Otherwise both could share a batch.
            yield large
            done.wait(PATIENCE)  # The stream stays open.

        replies = PartedVAEServiceStub(channel).StreamFeatures(requests())
        assert next(replies).features.HasField("model")
        answered.set()
        wait_until((tmp_path / "entered").exists)
        server.process.terminate()
        (tmp_path / "open").touch()
        assert len(floats(next(replies).features.factors[0].probs)) == LARGE
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
        done.set()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "the first 2 requests of the stream have replies" in (caught.value.details() or "")
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_a_caller_that_vanishes(tiny_models: Path, tmp_path: Path) -> None:
    """The chunks of a cancelled stream leave the queue; later calls run as soon as the only session is free."""
    program = ("-m", "tests.serving.gated_server", str(tmp_path))
    with (
        running_server(tiny_models, "--threads", "1", "--max-queue-rows", "40", program=program) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = PartedVAEServiceStub(channel)
        replies = stub.StreamFeatures(chunks(*[packed(GREY.random_images(LARGE))] * 50))
        wait_until((tmp_path / "entered").exists)
        replies.cancel()
        (tmp_path / "open").touch()
        images = GREY.random_images(3)
        for _ in range(5):
            reply = stub.ExtractFeatures(pb.ExtractFeaturesRequest(images=packed(images)), timeout=60)
            probs = floats(reply.factors[0].probs)
            np.testing.assert_allclose(probs, GREY.encode(images)["digit.probs"], atol=1e-5)
