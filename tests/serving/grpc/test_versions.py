"""Tests of versions in both protocols, against a real server: large ones, impossible ones, and callers of many."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status

from partedvae.cli.main import main
from partedvae.client import Client
from partedvae.oip import inference_pb2 as oip
from partedvae.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from partedvae.serving.bundle_files import MAX_VERSION
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.bundles import GREY
from tests.processes import ServerProcess, running_server
from tests.scraping import METRICS, metrics_of

DATED = 20251125073300
"""Named by the time, as users of TensorFlow Serving do; above 2^32 - 1."""
IMAGES = GREY.random_images(2)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dated_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server of `tiny` with the versions 1, 2^53 + 1 and, as the default, one named by the time."""
    folder = tmp_path_factory.mktemp("dated")
    for name in (str(DATED), "007"):
        GREY.write(folder / ".new").folder.rename(_made(folder / "tiny") / name)
    GREY.write(folder / ".new").folder.rename(folder / "tiny" / "1")
    GREY.write(folder / ".new").folder.rename(_made(folder / "other") / str(MAX_VERSION))
    with running_server(folder, *METRICS) as process:
        yield process


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_a_large_version_in_the_client(dated_server: ServerProcess) -> None:
    """It is listed, selected, returned, and the default."""
    with Client(dated_server.address, model="tiny") as client:
        assert [(m.name, m.version, m.is_default) for m in client.models()] == [
            ("other", MAX_VERSION, True),
            ("tiny", 1, False),
            ("tiny", DATED, True),
        ]
        assert client.features(IMAGES).version == client.classify(IMAGES).version == DATED
        assert client.model_info("other", MAX_VERSION).version == MAX_VERSION
        (chunk,) = client.stream_features([IMAGES])
        assert chunk.features is not None
        assert chunk.features.version == DATED
    with Client(dated_server.address, model="tiny", version=DATED) as client:
        assert client.generate(2, seed=0).version == DATED


def test_a_large_version_in_the_open_inference_protocol(dated_server: ServerProcess) -> None:
    with grpc.insecure_channel(dated_server.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        number = str(DATED)
        assert list(stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny.encoder")).versions) == ["1", number]
        assert stub.ModelReady(oip.ModelReadyRequest(name="tiny.decoder", version=number)).ready
        assert stub.ModelReady(oip.ModelReadyRequest(name="other.encoder", version=str(MAX_VERSION))).ready
        request = oip.ModelInferRequest(model_name="tiny.encoder", model_version=number)
        request.inputs.add(name="images", datatype="UINT8", shape=IMAGES.shape)
        request.raw_input_contents.append(IMAGES.tobytes())
        assert stub.ModelInfer(request).model_version == number


def test_a_large_version_in_commands_files_and_metrics(dated_server: ServerProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    output = tmp_path / "features.npz"
    arguments = ["--server", dated_server.address, "--model-name", "tiny", "--model-version", str(DATED)]
    result = CliRunner().invoke(main, ["extract", str(tmp_path / "images.npy"), "--output", str(output), *arguments])
    assert result.exit_code == 0, result.output
    with np.load(output) as arrays:
        assert json.loads(str(arrays["metadata"]))["partedvae.version"] == str(DATED)
    result = CliRunner().invoke(main, ["models", "--server", dated_server.address, "--json"])
    assert [m["version"] for m in json.loads(result.output)["models"]] == [MAX_VERSION, 1, DATED]
    served = {key: value for key, value in metrics_of(dated_server).items() if "served_version" in key}
    assert served == {
        'partedvae_model_served_version{model="tiny"}': DATED,
        'partedvae_model_served_version{model="other"}': 2.0**63,  # The nearest of 64 bits.
    }


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("version", "code", "message"),
    [
        (-1, INVALID, "version -1 is negative; choose a version, or 0 for the newest that works"),
        (-(2**63), INVALID, "version -9223372036854775808 is negative"),
        (7, NOT_FOUND, f"model 'tiny' has no version 7: there are [1, {DATED}]"),
        (2**32 + 1, NOT_FOUND, "model 'tiny' has no version 4294967297"),
        (DATED - 2**32, NOT_FOUND, f"model 'tiny' has no version {DATED - 2**32}"),
        (MAX_VERSION, NOT_FOUND, "model 'tiny' has no version 9223372036854775807"),
    ],
)
def test_versions_that_do_not_exist(
    dated_server: ServerProcess, version: int, code: grpc.StatusCode, message: str
) -> None:
    """Also in a stream; 007 is no version, and 1 is not taken for 2^32 + 1."""
    selector = pb.ModelSelector(name="tiny", version=version)
    with grpc.insecure_channel(dated_server.address) as channel:
        stub = PartedVAEServiceStub(channel)
        with pytest.raises(grpc.RpcError) as unary:
            stub.GetModel(pb.GetModelRequest(model=selector))
        with pytest.raises(grpc.RpcError) as stream:
            list(stub.StreamFeatures(iter([pb.StreamFeaturesRequest(model=selector)])))
    for error in (unary.value, stream.value):
        assert error.code() == code
        assert str(error.details()).startswith(message)


@pytest.mark.parametrize(
    "version", ["-1", "0", "007", "9223372036854775808", "9" * 1_000, "٣", "²", "1.0", " 1", "1\0"]
)
def test_texts_that_are_no_version(dated_server: ServerProcess, version: str) -> None:
    with grpc.insecure_channel(dated_server.address) as channel, pytest.raises(grpc.RpcError) as error:
        GRPCInferenceServiceStub(channel).ModelReady(oip.ModelReadyRequest(name="tiny.encoder", version=version))
    assert error.value.code() == INVALID
    assert "is not a positive integer; leave it empty for the newest" in str(error.value.details())


def test_a_caller_of_every_version(tmp_path: Path) -> None:
    """The third old version is refused with a retry delay; the default and the versions in use are not affected."""
    for _ in range(6):
        GREY.write(tmp_path / "tiny")
    with running_server(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = PartedVAEServiceStub(channel)

        def served(version: int) -> int:
            selector = pb.ModelSelector(version=version)
            reply: pb.GetModelResponse = stub.GetModel(pb.GetModelRequest(model=selector))
            return reply.model.version

        for _ in range(10):
            assert [served(version) for version in (1, 2, 0)] == [1, 2, 6]
            for version in (3, 4, 5):
                with pytest.raises(grpc.RpcError) as error:
                    served(version)
                assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert str(error.value.details()).startswith("2 older versions of model 'tiny' are in use")
                call: Any = error.value
                (detail,) = rpc_status.from_call(call).details
                retry = RetryInfo()
                assert detail.Unpack(retry)
                assert 0 < retry.retry_delay.ToTimedelta().total_seconds() <= 5
        assert server.log_file.read_text().count(": loaded tiny version ") == 3
