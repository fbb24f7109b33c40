"""Tests of every RPC, with raw stubs against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from partedvae.results import FloatArray, ImageArray
from partedvae.serving.bundle import load_bundle
from partedvae.serving.images import decode
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import EncodedImages, FloatTensor, Images, PackedImages
from tests.bundles import COLOURED, GREY
from tests.processes import ServerProcess, running_server
from tests.serving.pictures import file_of, noise, png_bomb

TINY = pb.ModelSelector(name="tiny")
SHAPES = pb.ModelSelector(name="shapes")


@pytest.fixture(scope="module")
def stub(two_model_server: ServerProcess) -> Iterator[PartedVAEServiceStub]:
    """Return a stub for a server with `tiny` 1 and 2 and `shapes`, and a limit of 100 images."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(two_model_server.address, options=options) as channel:
        yield PartedVAEServiceStub(channel)


def packed(images: ImageArray) -> Images:
    return Images(packed=PackedImages(data=images.tobytes(), shape=images.shape))


def encoded(*files: bytes) -> Images:
    return Images(encoded=EncodedImages(items=files))


def pixels(images: Images) -> ImageArray:
    return np.frombuffer(images.packed.data, np.uint8).reshape(images.packed.shape)


def assert_tensor(tensor: FloatTensor, expected: FloatArray) -> None:
    """Compare a tensor of a message with an array."""
    assert tuple(tensor.shape) == expected.shape
    np.testing.assert_allclose(np.frombuffer(tensor.data, "<f4").reshape(expected.shape), expected, atol=1e-5)


def test_list_models(stub: PartedVAEServiceStub) -> None:
    """All versions are listed, and the newest of each model is the default."""
    models = stub.ListModels(pb.ListModelsRequest()).models
    assert [(m.model.name, m.model.version, m.state, m.reason, m.is_default) for m in models] == [
        ("shapes", 1, pb.MODEL_STATE_READY, "", True),
        ("tiny", 1, pb.MODEL_STATE_READY, "", False),
        ("tiny", 2, pb.MODEL_STATE_READY, "", True),
    ]


@pytest.mark.slow
def test_list_models_with_a_broken_version(tmp_path: Path) -> None:
    """A broken newest version is listed with its reason, and the older one is served in its place."""
    GREY.write(tmp_path / "tiny")
    (GREY.write(tmp_path / "tiny").folder / "decoder.onnx").unlink()
    with running_server(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = PartedVAEServiceStub(channel)
        old, new = stub.ListModels(pb.ListModelsRequest()).models
        assert (old.state, old.reason, old.is_default) == (pb.MODEL_STATE_READY, "", True)
        assert (new.state, new.is_default) == (pb.MODEL_STATE_BROKEN, False)
        assert new.reason == "tiny/2/decoder.onnx is missing; export the run again"
        assert stub.GetModel(pb.GetModelRequest()).model.version == 1
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModel(pb.GetModelRequest(model=pb.ModelSelector(version=2)))
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, new.reason)


def test_get_model(stub: PartedVAEServiceStub, two_models: Path) -> None:
    """The manifest is what export wrote."""
    reply = stub.GetModel(pb.GetModelRequest(model=TINY))
    assert (reply.model.name, reply.model.version) == ("tiny", 2)
    assert reply.manifest == load_bundle(two_models / "tiny" / "2").manifest
    assert reply.execution_provider == "CPUExecutionProvider"


def test_get_model_reports_the_servers_limits(stub: PartedVAEServiceStub) -> None:
    """Those of its options, --max-images 100 here, and of their defaults."""
    assert stub.GetModel(pb.GetModelRequest(model=TINY)).limits == pb.RequestLimits(
        max_message_bytes=16 * 1024 * 1024, max_images=100, max_pixels=25_000_000, max_request_pixels=250_000_000
    )


def test_get_model_reports_measures_and_warnings(stub: PartedVAEServiceStub) -> None:
    """A model without measures, as every bundle of version 0.2 or older, has none and no warnings."""
    manifest = stub.GetModel(pb.GetModelRequest(model=SHAPES)).manifest
    assert dict(manifest.measures) == COLOURED.measures
    assert list(manifest.warnings) == list(COLOURED.warnings)
    unmeasured = stub.GetModel(pb.GetModelRequest(model=TINY)).manifest
    assert (dict(unmeasured.measures), list(unmeasured.warnings)) == ({}, [])


def test_older_version(stub: PartedVAEServiceStub) -> None:
    """A request can select an older version."""
    selector = pb.ModelSelector(name="tiny", version=1)
    assert stub.GetModel(pb.GetModelRequest(model=selector)).model.version == 1


def test_extract_features(stub: PartedVAEServiceStub) -> None:
    """By default the class-related part is returned, and nothing else."""
    images = COLOURED.random_images(5)
    reply = stub.ExtractFeatures(pb.ExtractFeaturesRequest(model=SHAPES, images=packed(images)))
    expected = COLOURED.encode(images)
    assert [f.name for f in reply.factors] == ["shape", "colour"]
    assert list(reply.factors[0].class_names) == ["square", "ellipse", "heart"]
    for factor in reply.factors:
        assert_tensor(factor.probs, expected[f"{factor.name}.probs"])
        assert_tensor(factor.u_mean, expected[f"{factor.name}.u_mean"])
        assert not factor.HasField("u_logvar")
    assert not reply.HasField("z_mean")
    assert not reply.HasField("z_logvar")


def test_extract_everything(stub: PartedVAEServiceStub) -> None:
    """All outputs can be requested that the model has: this one does not know the range of its scores."""
    images = GREY.random_images(3)
    include = [value for value in pb.FeatureOutput.values() if value not in (0, pb.FEATURE_OUTPUT_UNFAMILIAR)]
    reply = stub.ExtractFeatures(pb.ExtractFeaturesRequest(model=TINY, images=packed(images), include=include))
    expected = GREY.encode(images)
    assert_tensor(reply.factors[0].u_logvar, expected["digit.u_logvar"])
    assert_tensor(reply.z_mean, expected["z_mean"])
    assert_tensor(reply.z_logvar, expected["z_logvar"])


def test_files_of_any_kind(stub: PartedVAEServiceStub) -> None:
    """Files of different formats, sizes and modes go in one batch."""
    files = [file_of(noise(), "JPEG"), file_of(noise(80, 90, "RGB"), "WEBP"), file_of(noise(8, 8, "RGBA"))]
    reply = stub.ExtractFeatures(pb.ExtractFeaturesRequest(model=TINY, images=encoded(*files)))
    expected = GREY.encode(decode(files, GREY.manifest().image))
    assert_tensor(reply.factors[0].u_mean, expected["digit.u_mean"])


def test_classify(stub: PartedVAEServiceStub) -> None:
    """Each image gets its most probable class and all probabilities."""
    images = GREY.random_images(100)
    (factor,) = stub.Classify(pb.ClassifyRequest(model=TINY, images=packed(images))).factors
    probs = GREY.encode(images)["digit.probs"]
    assert list(factor.class_indices) == probs.argmax(axis=1).tolist()
    assert list(factor.class_names) == list("0123456789")
    assert_tensor(factor.probs, probs)


def test_classify_with_familiarity(stub: PartedVAEServiceStub) -> None:
    """On request, for a model that knows the range of its scores."""
    images = packed(COLOURED.random_images(2))
    request = pb.ClassifyRequest(model=SHAPES, images=images)
    assert list(stub.Classify(request).familiarity) == []
    request.check_familiarity = True
    assert list(stub.Classify(request).familiarity) == [pb.FAMILIARITY_FAMILIAR] * 2


def test_generate(stub: PartedVAEServiceStub) -> None:
    """Images have the model's size and the requested classes; the returned seed reproduces them."""
    request = pb.GenerateRequest(model=SHAPES, count=4, classes={"shape": "ellipse"})
    reply = stub.Generate(request)
    assert pixels(reply.images).shape == (4, 10, 12, 3)
    assert [(f.name, f.HasField("probs")) for f in reply.factors] == [("shape", False), ("colour", False)]
    assert list(reply.factors[0].class_indices) == [1, 1, 1, 1]
    again = stub.Generate(pb.GenerateRequest(model=SHAPES, count=2, classes={"shape": "ellipse"}, seed=reply.seed))
    np.testing.assert_array_equal(pixels(again.images), pixels(reply.images)[:2])
    other = stub.Generate(request)
    assert other.seed != reply.seed
    assert other.images != reply.images


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_seeds_at_the_ends(stub: PartedVAEServiceStub, seed: int) -> None:
    """Seed 0 differs from an absent seed."""
    first, second = (stub.Generate(pb.GenerateRequest(model=TINY, count=2, seed=seed)) for _ in range(2))
    assert first.seed == seed
    assert first == second


def test_reconstruct(stub: PartedVAEServiceStub) -> None:
    """A reconstruction is the decoder's image of the posterior means; as PNG it has the same pixels."""
    images = GREY.random_images(6)
    request = pb.ReconstructRequest(model=TINY, images=packed(images))
    latents = GREY.encode(images)
    expected = GREY.decode(latents["digit.u_mean"], latents["z_mean"])
    raw = pixels(stub.Reconstruct(request).images)
    assert np.abs(raw.astype(int) - expected).max() <= 1
    request.format = pb.IMAGE_FORMAT_PNG
    files = stub.Reconstruct(request).images.encoded.items
    np.testing.assert_array_equal(decode(files, GREY.manifest().image), raw)


IMAGE = packed(GREY.random_images(1))
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
JPEG, PNG = file_of(noise(), "JPEG"), file_of(noise())


def features(images: Images, model: pb.ModelSelector = TINY, include: Any = ()) -> pb.ExtractFeaturesRequest:
    return pb.ExtractFeaturesRequest(model=model, images=images, include=include)


def shaped(data: bytes, *shape: int) -> Images:
    return Images(packed=PackedImages(data=data, shape=shape))


BAD = {
    "images not set": (features(Images()), INVALID, "no images: set images.packed or images.encoded"),
    "empty packed": (features(shaped(b"", 0, 8, 6)), INVALID, "the batch is empty: send at least one image"),
    "empty encoded": (features(encoded()), INVALID, "the batch is empty: send at least one image"),
    "too many packed": (
        features(packed(GREY.random_images(101))),
        INVALID,
        "101 images are above the limit of 100 per request: send them in several requests",
    ),
    "too many encoded": (features(encoded(*[b""] * 101)), INVALID, "101 images are above the limit of 100"),
    "no image": (features(encoded(PNG, b"hello")), INVALID, "image 1: not an image (it starts with b'hello')"),
    "empty file": (features(encoded(PNG, PNG, b"")), INVALID, "image 2: no bytes"),
    "pdf": (features(encoded(file_of(noise(), "PDF"))), INVALID, "image 0: PDF is not supported"),
    "truncated jpeg": (features(encoded(JPEG[:-200])), INVALID, "image 0: damaged JPEG file: image file is truncated"),
    "truncated png": (features(encoded(PNG[:-200])), INVALID, "image 0: damaged PNG file: image file is truncated"),
    "bomb": (features(encoded(png_bomb())), INVALID, "image 0: 60000x60000 pixels are above the limit of 25,000,000"),
    "wrong rank": (features(shaped(b"x" * 48, 8, 6)), INVALID, "images of shape [8, 6] cannot be used"),
    "two channels": (features(shaped(b"x" * 96, 1, 8, 6, 2)), INVALID, "with 1 or 3 channels"),
    "wrong length": (features(shaped(b"x" * 47, 1, 8, 6)), INVALID, "need 48 bytes, got 47"),
    "huge shape": (features(shaped(b"x", 1, 2**32 - 1, 2**32 - 1)), INVALID, "bytes, got 1"),
    "include unspecified": (features(IMAGE, include=[0]), INVALID, "include has the value 0; choose from"),
    "include unknown": (features(IMAGE, include=[1, 99]), INVALID, "include has the value 99; choose from"),
    "no model name": (features(IMAGE, pb.ModelSelector()), INVALID, "several models; choose one of ['shapes', 'tiny']"),
    "unknown model": (
        features(IMAGE, pb.ModelSelector(name="tinny")),
        NOT_FOUND,
        "no model is named 'tinny': there are ['shapes', 'tiny']; did you mean 'tiny'?",
    ),
    "unknown version": (
        features(IMAGE, pb.ModelSelector(name="tiny", version=9)),
        NOT_FOUND,
        "model 'tiny' has no version 9: there are [1, 2]",
    ),
    "classify": (pb.ClassifyRequest(model=TINY), INVALID, "no images"),
    "reconstruct": (pb.ReconstructRequest(model=TINY), INVALID, "no images"),
    "reconstruct format": (
        pb.ReconstructRequest(model=TINY, images=IMAGE, format=pb.ImageFormat.ValueType(7)),
        INVALID,
        "format has the value 7; choose one of ['IMAGE_FORMAT_PACKED', 'IMAGE_FORMAT_PNG']",
    ),
    "get unknown model": (pb.GetModelRequest(model=pb.ModelSelector(name="x")), NOT_FOUND, "no model is named 'x'"),
    "count 0": (pb.GenerateRequest(model=TINY), INVALID, "a count of 0 images is out of range: choose 1 to 100"),
    "count too large": (pb.GenerateRequest(model=TINY, count=2**32 - 1), INVALID, "choose 1 to 100"),
    "unknown factor": (
        pb.GenerateRequest(model=TINY, count=1, classes={"digits": "3"}),
        INVALID,
        "no factor is named 'digits': there are ['digit']; did you mean 'digit'?",
    ),
    "unknown class": (
        pb.GenerateRequest(model=SHAPES, count=1, classes={"shape": "hart"}),
        INVALID,
        "no class of factor 'shape' is named 'hart': there are ['square', 'ellipse', 'heart']; did you mean 'heart'?",
    ),
    "huge class name": (
        pb.GenerateRequest(model=SHAPES, count=1, classes={"shape": "x" * 1_000}),
        INVALID,
        "no class of factor 'shape' is named 'xxx",
    ),
    "generate format": (
        pb.GenerateRequest(model=TINY, count=1, format=pb.ImageFormat.ValueType(7)),
        INVALID,
        "format has the value 7",
    ),
    "message too large": (
        features(shaped(b"x" * (16 * 1024 * 1024 + 1), 1, 8, 6)),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the request has 16,777,245 bytes, above the limit of 16,777,216",
    ),
}
METHOD_OF = {
    pb.ExtractFeaturesRequest: "ExtractFeatures",
    pb.ClassifyRequest: "Classify",
    pb.ReconstructRequest: "Reconstruct",
    pb.GenerateRequest: "Generate",
    pb.GetModelRequest: "GetModel",
}


@pytest.mark.parametrize(("request_", "code", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input(stub: PartedVAEServiceStub, request_: Any, code: grpc.StatusCode, message: str) -> None:
    """Invalid requests get the right status and a message with value and remedy; later requests succeed."""
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, METHOD_OF[type(request_)])(request_)
    assert caught.value.code() == code
    assert message in (caught.value.details() or "")
    assert stub.Classify(pb.ClassifyRequest(model=TINY, images=IMAGE)).model.name == "tiny"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_reply_that_would_be_too_large(tmp_path: Path) -> None:
    """Replies above the message limit are rejected with the number of images that fit."""
    GREY.write(tmp_path / "tiny")
    with running_server(tmp_path, "--max-message-mb", "1", "--max-images", "100000") as server:
        channel = grpc.insecure_channel(server.address)
        stub = PartedVAEServiceStub(channel)
        message = "30000 images of 48 bytes are above the limit of 1,048,576 bytes per message; request at most 21845"
        small = shaped(bytes(30_000), 30_000, 1, 1)
        for call in (
            lambda: stub.Generate(pb.GenerateRequest(count=30_000)),
            lambda: stub.Reconstruct(pb.ReconstructRequest(images=small)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() == INVALID
            assert message in (caught.value.details() or "")
        channel.close()
