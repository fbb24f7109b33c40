"""Tests of the Open Inference Protocol service, with raw stubs against a real server."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from partedvae.oip import inference_pb2 as oip
from partedvae.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from partedvae.serving.grpc.oip.tensors import VALUES_AT_ONCE
from partedvae.serving.images import decode
from tests.bundles import COLOURED, GREY
from tests.processes import ServerProcess, running_server
from tests.serving.pictures import file_of, noise

SERVICE = "inference.GRPCInferenceService"
IMAGES = GREY.random_images(3)


@pytest.fixture(scope="module")
def channel(two_model_server: ServerProcess) -> Iterator[grpc.Channel]:
    """Connect to a server with `tiny` 1 and 2 and `shapes` 1, and a limit of 100 images."""
    with grpc.insecure_channel(two_model_server.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(channel)


def encode_request(*outputs: str, **more: Any) -> oip.ModelInferRequest:
    """Return a request for outputs of `IMAGES` from `tiny`."""
    request = oip.ModelInferRequest(model_name="tiny.encoder", raw_input_contents=[IMAGES.tobytes()], **more)
    request.inputs.add(name="images", datatype="UINT8", shape=IMAGES.shape)
    for name in outputs:
        request.outputs.add(name=name)
    return request


def arrays_of(reply: oip.ModelInferResponse) -> dict[str, np.ndarray[Any, Any]]:
    dtypes = {"FP32": "<f4", "UINT8": "u1"}
    return {
        tensor.name: np.frombuffer(raw, dtypes[tensor.datatype]).reshape(tensor.shape)
        for tensor, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }


def test_server(stub: GRPCInferenceServiceStub) -> None:
    """The server is live and ready, and reports its name and version."""
    assert stub.ServerLive(oip.ServerLiveRequest()).live
    assert stub.ServerReady(oip.ServerReadyRequest()).ready
    metadata = stub.ServerMetadata(oip.ServerMetadataRequest())
    assert (metadata.name, metadata.version) == ("partedvae", version("partedvae"))
    assert list(metadata.extensions) == ["model_repository"]


@pytest.mark.parametrize(
    ("name", "number", "ready"),
    [
        ("tiny.encoder", "", True),
        ("tiny.decoder", "1", True),
        ("tiny.encoder", "2", True),
        ("tiny.encoder", "3", False),
        ("tiny", "", False),
        ("nobody.encoder", "", False),
    ],
)
def test_model_ready(stub: GRPCInferenceServiceStub, name: str, number: str, ready: bool) -> None:
    """Both graphs of each version are ready; unknown models and versions are not."""
    assert stub.ModelReady(oip.ModelReadyRequest(name=name, version=number)).ready is ready


def test_metadata_of_an_encoder(stub: GRPCInferenceServiceStub) -> None:
    """The metadata has inputs and outputs with a variable number of rows, and the available versions."""
    metadata = stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny.encoder"))
    assert (metadata.name, list(metadata.versions), metadata.platform) == (
        "tiny.encoder",
        ["1", "2"],
        "onnxruntime_onnx",
    )
    assert dict(metadata.properties) == {
        "execution_provider": "CPUExecutionProvider",
        "precision": "fp32",
        "fit": "stretch",
    }
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("images", "UINT8", [-1, 8, 6, 1])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
        ("digit.probs", "FP32", [-1, 10]),
        ("digit.u_mean", "FP32", [-1, 3]),
        ("digit.u_logvar", "FP32", [-1, 3]),
        ("z_mean", "FP32", [-1, 4]),
        ("z_logvar", "FP32", [-1, 4]),
    ]


def test_metadata_of_a_decoder(stub: GRPCInferenceServiceStub) -> None:
    """The inputs of a decoder are u of all factors, and z."""
    metadata = stub.ModelMetadata(oip.ModelMetadataRequest(name="shapes.decoder", version="1"))
    assert [(t.name, list(t.shape)) for t in metadata.inputs] == [("u", [-1, 3]), ("z", [-1, 5])]
    assert [(t.name, list(t.shape)) for t in metadata.outputs] == [("images", [-1, 10, 12, 3])]


def test_features(stub: GRPCInferenceServiceStub) -> None:
    """Outputs are raw, in the order of the request, with the id of the request and the version used."""
    reply = stub.ModelInfer(encode_request("z_mean", "digit.u_mean", id="my-request"))
    assert (reply.model_name, reply.model_version, reply.id) == ("tiny.encoder", "2", "my-request")
    arrays = arrays_of(reply)
    assert list(arrays) == ["z_mean", "digit.u_mean"]
    for name, array in arrays.items():
        np.testing.assert_allclose(array, GREY.encode(IMAGES)[name], atol=1e-5)
    assert not any(tensor.HasField("contents") for tensor in reply.outputs)


def test_all_outputs_by_default(stub: GRPCInferenceServiceStub) -> None:
    """A request without outputs gets all of them."""
    arrays = arrays_of(stub.ModelInfer(encode_request()))
    expected = GREY.encode(IMAGES)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-5)


def test_a_pinned_version(stub: GRPCInferenceServiceStub) -> None:
    """A request can select an older version."""
    assert stub.ModelInfer(encode_request("z_mean", model_version="1")).model_version == "1"


def test_image_files(stub: GRPCInferenceServiceStub) -> None:
    """Image files of any format and size are sent as BYTES."""
    files = [file_of(noise(), "JPEG"), file_of(noise(40, 30, "RGB"))]
    raw = b"".join(struct.pack("<I", len(file)) + file for file in files)
    request = oip.ModelInferRequest(model_name="tiny.encoder", raw_input_contents=[raw])
    request.inputs.add(name="images", datatype="BYTES", shape=[2])
    request.outputs.add(name="digit.u_mean")
    expected = GREY.encode(decode(files, GREY.manifest().image))["digit.u_mean"]
    np.testing.assert_allclose(arrays_of(stub.ModelInfer(request))["digit.u_mean"], expected, atol=1e-5)


def test_many_numbers_in_contents(stub: GRPCInferenceServiceStub) -> None:
    """Numbers that are converted in several steps give what raw contents do; each is checked."""
    images = COLOURED.random_images(60)
    assert images.size > VALUES_AT_ONCE
    request = oip.ModelInferRequest(model_name="shapes.encoder")
    request.inputs.add(name="images", datatype="UINT8", shape=images.shape)
    request.inputs[0].contents.uint_contents.extend(images.ravel().tolist())
    arrays = arrays_of(stub.ModelInfer(request))
    np.testing.assert_allclose(arrays["shape.u_mean"], COLOURED.encode(images)["shape.u_mean"], atol=1e-5)
    request.inputs[0].contents.uint_contents[-1] = 300
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    assert caught.value.details() == "input 'images' has the value 300; the maximum of UINT8 is 255"


def test_images_from_latents(stub: GRPCInferenceServiceStub) -> None:
    """The output of a decoder is uint8 images."""
    random = np.random.default_rng(0)
    u, z = (random.standard_normal((4, dim), dtype=np.float32) for dim in (3, 5))
    request = oip.ModelInferRequest(model_name="shapes.decoder", raw_input_contents=[u.tobytes(), z.tobytes()])
    request.inputs.add(name="u", datatype="FP32", shape=u.shape)
    request.inputs.add(name="z", datatype="FP32", shape=z.shape)
    images = arrays_of(stub.ModelInfer(request))["images"]
    assert np.abs(images.astype(int) - COLOURED.decode(u, z)).max() <= 1


def test_repository_index(stub: GRPCInferenceServiceStub) -> None:
    """Each version of each model is listed as its two graphs."""
    models = stub.RepositoryIndex(oip.RepositoryIndexRequest()).models
    assert [(m.name, m.version, m.state) for m in models] == [
        (f"{name}.{graph}", number, "READY")
        for name, number in (("shapes", "1"), ("tiny", "1"), ("tiny", "2"))
        for graph in ("encoder", "decoder")
    ]


@pytest.mark.slow
def test_a_broken_version(tmp_path: Path) -> None:
    """A refused version is UNAVAILABLE with its reason, and not listed as ready."""
    GREY.write(tmp_path / "tiny")
    (GREY.write(tmp_path / "tiny").folder / "decoder.onnx").unlink()
    with running_server(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        models = stub.RepositoryIndex(oip.RepositoryIndexRequest()).models
        assert [(m.version, m.state) for m in models] == [("1", "READY")] * 2 + [("2", "UNAVAILABLE")] * 2
        assert models[2].reason.endswith("decoder.onnx is missing; export the run again")
        ready = stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True)).models
        assert [m.version for m in ready] == ["1", "1"]
        assert not stub.ModelReady(oip.ModelReadyRequest(name="tiny.encoder", version="2")).ready
        assert list(stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny.encoder")).versions) == ["1"]
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(encode_request(model_version="2"))
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
BAD: dict[str, tuple[str, Any, grpc.StatusCode, str]] = {
    "unknown model": (
        "ModelInfer",
        oip.ModelInferRequest(model_name="tiny"),
        NOT_FOUND,
        "no model is named 'tiny'; choose from ['shapes.encoder', 'shapes.decoder', 'tiny.encoder', 'tiny.decoder']",
    ),
    "unknown version": (
        "ModelInfer",
        encode_request(model_version="9"),
        NOT_FOUND,
        "model 'tiny' has no version 9: there are [1, 2]",
    ),
    "no version": (
        "ModelMetadata",
        oip.ModelMetadataRequest(name="tiny.encoder", version="newest"),
        INVALID,
        "the version 'newest' is not a positive integer; leave it empty for the newest",
    ),
    "huge version": (
        "ModelReady",
        oip.ModelReadyRequest(name="tiny.encoder", version="9" * 5000),
        INVALID,
        "ModelReadyRequest.version has 5,000 bytes, above the limit of 1,024 for a name",
    ),
    "unknown output": (
        "ModelInfer",
        encode_request("digit.u"),
        INVALID,
        "no output is named 'digit.u'; choose from ['digit.probs', 'digit.u_mean'",
    ),
    "an output twice": (
        "ModelInfer",
        encode_request("z_mean", "z_mean"),
        INVALID,
        "contain a duplicate; request each once",
    ),
    "no inputs": ("ModelInfer", oip.ModelInferRequest(model_name="tiny.encoder"), INVALID, "send each of ['images']"),
}


@pytest.mark.parametrize(("method", "request_", "code", "text"), BAD.values(), ids=BAD.keys())
def test_bad_requests(
    stub: GRPCInferenceServiceStub, method: str, request_: Any, code: grpc.StatusCode, text: str
) -> None:
    """Invalid requests get the status codes of PartedVAEService, and messages with value and remedy."""
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(request_)
    assert caught.value.code() == code
    assert text in (caught.value.details() or "")


def test_health_and_reflection(channel: grpc.Channel) -> None:
    """Health checks and reflection know the service by its name."""
    assert HealthStub(channel).Check(HealthCheckRequest(service=SERVICE)).status == HealthCheckResponse.SERVING
    requests = [ServerReflectionRequest(list_services=""), ServerReflectionRequest(file_containing_symbol=SERVICE)]
    listed, described = ServerReflectionStub(channel).ServerReflectionInfo(iter(requests))
    assert SERVICE in {service.name for service in listed.list_services_response.service}
    assert any(b"ModelInfer" in proto for proto in described.file_descriptor_response.file_descriptor_proto)


@pytest.mark.slow
def test_reply_too_large(tmp_path: Path) -> None:
    """Replies above the message limit are rejected with the number of images that fit."""
    GREY.write(tmp_path / "tiny")
    with running_server(tmp_path, "--max-message-mb", "1", "--max-images", "100000") as server:
        request = oip.ModelInferRequest(
            model_name="tiny.decoder", raw_input_contents=[bytes(30_000 * 12), bytes(30_000 * 16)]
        )
        request.inputs.add(name="u", datatype="FP32", shape=[30_000, 3])
        request.inputs.add(name="z", datatype="FP32", shape=[30_000, 4])
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
            GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert caught.value.code() == INVALID
    assert "30000 images of 48 bytes are above the limit of 1,048,576 bytes per message" in (
        caught.value.details() or ""
    )
