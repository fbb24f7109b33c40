"""Tests of the precisions of a model: which encoder runs, and what it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from partedvae.serving.bundle import INT8_ENCODER_FILE, Bundle, load_bundle
from partedvae.serving.errors import BundleError, DeviceError
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.onnx_runtime import ort
from tests.bundles import GREY

INT8 = replace(GREY, has_int8=True)
IMAGES = GREY.random_images(5)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return INT8.write(tmp_path / "tiny")


def test_each_precision_runs_its_own_encoder(bundle: Bundle) -> None:
    expected = {"fp32": GREY.encode(IMAGES), "int8": GREY.encode(IMAGES, int8=True)}
    assert np.abs(expected["fp32"]["z_mean"] - expected["int8"]["z_mean"]).max() > 0.01
    for model in (OnnxModel.load(bundle), OnnxModel.load(bundle, "cpu", 1, "int8")):
        assert model.provider == "CPUExecutionProvider"
        for name, values in model.encode(IMAGES, list(expected["fp32"])).items():
            np.testing.assert_allclose(values, expected[model.precision][name], atol=1e-5, err_msg=name)


def test_decoder_and_scorer_are_those_of_fp32(bundle: Bundle) -> None:
    fp32, int8 = OnnxModel.load(bundle), OnnxModel.load(bundle, precision="int8")
    u, z = np.ones((2, GREY.u_dim), np.float32), np.ones((2, GREY.z_dim), np.float32)
    np.testing.assert_array_equal(int8.decode(u, z), fp32.decode(u, z))
    np.testing.assert_array_equal(
        int8.score(IMAGES, ["negative_elbo"])["negative_elbo"], fp32.score(IMAGES, ["negative_elbo"])["negative_elbo"]
    )


def test_a_bundle_without_the_encoder_names_the_remedy(tmp_path: Path) -> None:
    bundle = GREY.write(tmp_path / "tiny")
    assert bundle.int8_encoder_path is None
    with pytest.raises(
        BundleError,
        match=r"version 1 of model 'tiny' has no encoder\.int8\.onnx, .*'partedvae export --precision int8', or choose "
        "--precision fp32",
    ):
        OnnxModel.load(bundle, precision="int8")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_does_not_compute_with_int8(bundle: Bundle, device: Device) -> None:
    with pytest.raises(
        DeviceError, match=f"precision 'int8' is not available on device '{device}'; choose --device cpu"
    ):
        OnnxModel.load(bundle, device, precision="int8")


def test_auto_is_the_cpu_where_there_is_a_gpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The graph is not tried on the GPU, where ONNX Runtime would move its operators to the CPU one by one."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert OnnxModel.load(bundle, "auto", precision="int8").provider == "CPUExecutionProvider"
    assert caplog.text == ""


def test_its_checksum_is_verified(bundle: Bundle) -> None:
    """Also where fp32 is served: a damaged bundle is refused as a whole."""
    (bundle.folder / INT8_ENCODER_FILE).write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"encoder\.int8\.onnx is damaged: its SHA-256 is"):
        load_bundle(bundle.folder)


def test_a_graph_with_other_outputs_is_refused(tmp_path: Path) -> None:
    """The encoder of 8-bit integers has to be the one that the manifest describes."""
    other = replace(INT8, z_dim=5)
    bundle = INT8.write(tmp_path / "tiny")
    content = other.encoder_graph(int8=True).SerializeToString()

    class OfOther(Bundle):
        def read_graph(self, path: Path) -> bytes:
            return content if path.name == INT8_ENCODER_FILE else super().read_graph(path)

    with pytest.raises(BundleError, match=r"encoder\.int8\.onnx: the output 'z_mean' is tensor\(float\)"):
        OnnxModel.load(OfOther(folder=bundle.folder, manifest=bundle.manifest), precision="int8")
