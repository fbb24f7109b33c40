"""Tests of `partedvae.serving.onnx.model` and `partedvae.serving.onnx.sessions`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import DECODER_FILE, ENCODER_FILE, encoder_outputs, load_bundle, write_bundle
from partedvae.serving.errors import BundleError, DeviceError
from partedvae.serving.onnx.model import MAX_ROWS, OnnxModel
from partedvae.serving.onnx.sessions import Graph, open_on_device
from partedvae.serving.onnx_runtime import ort
from partedvae.v1.manifest_pb2 import Manifest
from tests.bundles import COLOURED, GREY, TinyModel


@pytest.fixture(scope="module")
def grey(tiny_models: Path) -> OnnxModel:
    return OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"))


@pytest.mark.parametrize("count", [1, 7, MAX_ROWS, 2 * MAX_ROWS + 1])
def test_encode(grey: OnnxModel, count: int) -> None:
    """All outputs are those of the graph, in order, also when the batch is run in slices."""
    images = GREY.random_images(count)
    outputs = grey.encode(images, encoder_outputs(factor.name for factor in grey.manifest.factors))
    expected = GREY.encode(images)
    assert outputs.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values, atol=1e-5, err_msg=name)


def test_encode_returns_the_requested_outputs(grey: OnnxModel) -> None:
    """Only the requested outputs are returned."""
    assert list(grey.encode(GREY.random_images(2), ["z_mean"])) == ["z_mean"]


@pytest.mark.parametrize("count", [1, 2 * MAX_ROWS + 1])
def test_decode(two_models: Path, count: int) -> None:
    """Images are those of the graph, in order."""
    model = OnnxModel.load(load_bundle(two_models / "shapes" / "1"))
    random = np.random.default_rng(0)
    u, z = (random.normal(size=(count, dim)).astype(np.float32) for dim in (COLOURED.u_dim, COLOURED.z_dim))
    images = model.decode(u, z)
    assert images.shape == (count, 10, 12, 3)
    assert images.dtype == np.uint8
    assert np.abs(images.astype(int) - COLOURED.decode(u, z)).max() <= 1


def test_read_only_images(grey: OnnxModel) -> None:
    """A read-only view of a message's bytes can be encoded without a copy."""
    images = GREY.random_images(2)
    view = np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape)
    np.testing.assert_array_equal(grey.encode(view, ["z_mean"])["z_mean"], grey.encode(images, ["z_mean"])["z_mean"])


def test_many_threads_share_one_model(grey: OnnxModel) -> None:
    """Each of several concurrent calls returns its own rows."""
    batches = [GREY.random_images(20, seed) for seed in range(40)]
    with ThreadPoolExecutor(8) as executor:
        for batch, outputs in zip(batches, executor.map(lambda b: grey.encode(b, ["z_mean"]), batches), strict=True):
            np.testing.assert_allclose(outputs["z_mean"], GREY.encode(batch)["z_mean"], atol=1e-5)


def test_identity(grey: OnnxModel) -> None:
    """A model has its name, version, provider and manifest."""
    assert (grey.name, grey.version, grey.provider) == ("tiny", 1, "CPUExecutionProvider")
    assert grey.manifest.training.labels_used == 256


@pytest.mark.parametrize(("threads", "expected"), [(None, available_cpus()), (3, 3)])
def test_session_options(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, expected: int
) -> None:
    """The number of threads is the caller's, or that of the available processors; they do not spin."""
    seen: list[ort.SessionOptions] = []
    real = ort.InferenceSession

    def spy(path: Path, options: ort.SessionOptions, **kwargs: Any) -> ort.InferenceSession:
        seen.append(options)
        return real(path, options, **kwargs)

    monkeypatch.setattr(ort, "InferenceSession", spy)
    OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"), threads=threads)
    assert len(seen) == 3
    for options in seen:
        assert options.intra_op_num_threads == expected
        assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_cuda_without_its_provider(tiny_models: Path) -> None:
    """Requesting CUDA from an ONNX Runtime without it fails, and the error says what to install."""
    with pytest.raises(DeviceError, match=r"no CUDAExecutionProvider: install partedvae\[gpu\].*--device cpu"):
        OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"), "cuda")


class TestCudaThatDoesNotWork:
    """ONNX Runtime lists CUDA, but falls back to the CPU, because the driver is missing."""

    @pytest.fixture(autouse=True)
    def _claim_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])

    @pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
    def test_cuda(self, tiny_models: Path) -> None:
        """`cuda` fails instead of falling back silently."""
        with pytest.raises(DeviceError, match=r"CUDAExecutionProvider failed: .*check the driver"):
            OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"), "cuda")

    @pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
    def test_auto(self, tiny_models: Path, caplog: pytest.LogCaptureFixture) -> None:
        """`auto` uses the CPU, and logs a warning."""
        model = OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"), "auto")
        assert model.provider == "CPUExecutionProvider"
        assert "CUDAExecutionProvider failed, using the CPU" in caplog.text

    def test_a_bad_file_is_not_the_device_s_fault(self, tmp_path: Path) -> None:
        """A damaged file is reported as such."""
        with pytest.raises(BundleError, match="is not a graph that ONNX Runtime can load"):
            open_on_device(Graph(tmp_path / "encoder.onnx", b"no graph"), "cuda", 1, {})


def test_truncated_graph_with_the_right_checksum(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The error names the truncated file and a remedy; ONNX Runtime itself prints nothing."""

    def write_graphs(folder: Path) -> None:
        whole = GREY.encoder_graph().SerializeToString()
        (folder / ENCODER_FILE).write_bytes(whole[: len(whole) // 2])
        (folder / DECODER_FILE).write_bytes(GREY.decoder_graph().SerializeToString())

    bundle = write_bundle(tmp_path / "tiny", GREY.manifest(), write_graphs)
    with pytest.raises(BundleError, match=r"tiny/1/encoder\.onnx is not a graph .*export the run again"):
        OnnxModel.load(bundle)
    assert capfd.readouterr() == ("", "")


def wider(manifest: Manifest) -> None:
    manifest.image.width += 1


def more_z(manifest: Manifest) -> None:
    manifest.z_dim += 1


def renamed_factor(manifest: Manifest) -> None:
    manifest.factors[0].name = "number"


def more_classes(manifest: Manifest) -> None:
    manifest.factors[0].class_names.append("ten")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wider, r"encoder\.onnx: the input 'images' is tensor\(uint8\) \['batch', 8, 6, 1\], the manifest needs"),
        (more_z, r"encoder\.onnx: the output 'z_mean' is tensor\(float\) \['batch', 4\]"),
        (renamed_factor, r"encoder\.onnx has the outputs .*'digit\.probs'.* the manifest needs .*'number\.probs'"),
        (more_classes, r"factor 'digit' has 11 classes and \(10, 30, 30\) values of prior_probs"),
    ],
)
def test_manifest_of_another_model(tmp_path: Path, change: Callable[[Manifest], None], message: str) -> None:
    """Names, dimensions and priors are checked against the manifest."""

    class Changed(TinyModel):
        def manifest(self) -> Manifest:
            manifest = super().manifest()
            change(manifest)
            return manifest

    with pytest.raises(BundleError, match=message):
        OnnxModel.load(Changed().write(tmp_path / "tiny"))


def test_decoder_of_another_model(tmp_path: Path) -> None:
    """The decoder is checked as well."""

    def write_graphs(folder: Path) -> None:
        (folder / ENCODER_FILE).write_bytes(GREY.encoder_graph().SerializeToString())
        (folder / DECODER_FILE).write_bytes(replace(GREY, z_dim=9).decoder_graph().SerializeToString())

    bundle = write_bundle(tmp_path / "tiny", GREY.manifest(), write_graphs)
    with pytest.raises(BundleError, match=r"decoder\.onnx: the input 'z' is tensor\(float\) \['batch', 9\]"):
        OnnxModel.load(bundle)


def test_fixed_batch(tmp_path: Path) -> None:
    """A graph for one batch size cannot be served."""

    def write_graphs(folder: Path) -> None:
        encoder = GREY.encoder_graph()
        encoder.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        (folder / ENCODER_FILE).write_bytes(encoder.SerializeToString())
        (folder / DECODER_FILE).write_bytes(GREY.decoder_graph().SerializeToString())

    bundle = write_bundle(tmp_path / "tiny", GREY.manifest(), write_graphs)
    with pytest.raises(BundleError, match=r"'images' is tensor\(uint8\) \[1, 8, 6, 1\], the manifest needs"):
        OnnxModel.load(bundle)


def test_the_bytes_of_a_graph_are_not_kept(tiny_models: Path) -> None:
    """A session has its weights; the file from which they are would be in memory a second time."""
    path = load_bundle(tiny_models / "tiny" / "1").encoder_path
    content = path.read_bytes()
    before = sys.getrefcount(content)
    session = open_on_device(Graph(path, content), "cpu", 1, {})
    assert [tensor.name for tensor in session.get_inputs()] == ["images"]
    assert sys.getrefcount(content) == before


def test_checksum_helper_is_the_usual_one(tiny_models: Path) -> None:
    """The manifest's checksum is the plain SHA-256 of the file, so that `sha256sum` proves it."""
    bundle = load_bundle(tiny_models / "tiny" / "1")
    recorded = {file.name: file.sha256 for file in bundle.manifest.files}
    assert recorded[ENCODER_FILE] == hashlib.sha256(bundle.encoder_path.read_bytes()).hexdigest()
