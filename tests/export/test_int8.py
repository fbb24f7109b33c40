"""Exports with an encoder of 8-bit integers: as accurate as that of 32-bit floats, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

import partedvae.export.exporter
from partedvae.export.cli import export as export_command
from partedvae.export.errors import ExportError
from partedvae.export.int8_check import check_int8_encoder
from partedvae.export.quantization import CALIBRATION_IMAGES, calibration_indices, quantized_nodes, write_int8_encoder
from partedvae.serving import load
from partedvae.serving.bundle import ENCODER_FILE, INT8_ENCODER_FILE, Bundle, load_bundle
from partedvae.serving.onnx_runtime import ort
from partedvae.training.data.dataset import ImageDataset, Images, Split
from tests.export.graphs import copy_graphs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(small_run: Path, tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Bundle:
    """Return the small run's bundle with both encoders, as the command exports it."""
    model = tmp_path_factory.mktemp("models") / "mnist"
    arguments = [str(small_run), str(model), "--data", str(data_dir), "--precision", "int8"]
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    assert "\nint8: accuracy/digit 0." in result.output
    assert ", same class/digit 0.9" in result.output
    return load_bundle(model / "1")


@pytest.fixture(scope="module")
def folder(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both encoders of the bundle."""
    folder = tmp_path_factory.mktemp("encoders")
    for name in (ENCODER_FILE, INT8_ENCODER_FILE):
        shutil.copy(bundle.folder / name, folder)
    return folder


def test_the_manifest_compares_both_encoders_on_all_test_images(bundle: Bundle, mnist: ImageDataset) -> None:
    int8 = bundle.manifest.int8_encoder
    labels = mnist.test.labels[:, 0].numpy()
    classes = {}
    for path in (bundle.encoder_path, bundle.int8_encoder_path):
        assert path is not None
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (probs,) = session.run(["digit.probs"], {"images": mnist.test.images[torch.arange(10_000)].numpy()})
        classes[path.name] = probs.argmax(axis=1)
    assert (int8.images, int8.calibration_images, int8.tolerance) == (10_000, CALIBRATION_IMAGES, 0.1)
    # Other threads and batches round differently, by which an image or two change their class.
    assert int8.accuracies["digit"] == pytest.approx((classes[INT8_ENCODER_FILE] == labels).mean(), abs=2e-4)
    assert int8.accuracies["digit"] >= bundle.manifest.scores["accuracy/digit"] - 0.0012
    assert int8.agreements["digit"] == pytest.approx(
        (classes[INT8_ENCODER_FILE] == classes[ENCODER_FILE]).mean(), abs=2e-4
    )
    assert sorted(int8.relative_differences) == ["digit.u_logvar", "digit.u_mean", "z_logvar", "z_mean"]
    assert all(0 < value <= 0.1 for value in int8.relative_differences.values())


def test_its_features_are_served(bundle: Bundle, mnist: ImageDataset) -> None:
    images = mnist.test.images[torch.arange(200)].numpy()
    fp32, int8 = (
        load(bundle.folder, precision=p).features(images, include=["probs", "z_mean"]) for p in ("fp32", "int8")
    )
    assert fp32.z is not None
    assert int8.z is not None
    assert 0 < np.abs(fp32.z - int8.z).max() < 0.5
    assert (fp32["digit"].classes == int8["digit"].classes).mean() > 0.97


def test_convolutions_after_the_first_and_h_are_integers(folder: Path) -> None:
    graph = onnx.load(folder / ENCODER_FILE).graph
    # The LeakyReLUs after the last convolution and after h are no limits of a range, and stay.
    assert quantized_nodes(graph) == ["node_conv2d_1", "node_conv2d_2", "node_relu_1", "node_linear"]
    model = onnx.load(folder / INT8_ENCODER_FILE)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 20)]
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    integers = {
        name: onnx.numpy_helper.to_array(t) for name, t in stored.items() if t.data_type == onnx.TensorProto.INT8
    }
    weights = {name: values for name, values in integers.items() if name.endswith(".weight_quantized")}
    assert [name.split(".", 1)[1] for name in sorted(weights)] == [
        "trunk.convolutions.1.weight_quantized",
        "trunk.convolutions.2.weight_quantized",
        "trunk.hidden.weight_quantized",
    ]
    for values in weights.values():  # 7 bits, so that no processor's sums overflow
        assert int(np.abs(values.astype(int)).max()) <= 64
    assert (folder / INT8_ENCODER_FILE).stat().st_size < (folder / ENCODER_FILE).stat().st_size / 3
    assert b"/" + str(folder).encode()[1:] not in (folder / INT8_ENCODER_FILE).read_bytes()


def test_two_quantizations_are_equal(folder: Path, tmp_path: Path, mnist: ImageDataset) -> None:
    write_int8_encoder(tmp_path / "again.onnx", folder / ENCODER_FILE, mnist.train.images)
    assert (tmp_path / "again.onnx").read_bytes() == (folder / INT8_ENCODER_FILE).read_bytes()


@pytest.mark.parametrize(("count", "indices"), [(1, [0]), (3, [0, 1, 2]), (1025, None), (60_000, None)])
def test_calibration_images_are_evenly_spaced(count: int, indices: list[int] | None) -> None:
    found = calibration_indices(torch.zeros(count, 1, 1, 1, dtype=torch.uint8)).tolist()
    assert len(set(found)) == len(found) == min(count, CALIBRATION_IMAGES)
    assert (found[0], found[-1]) == (0, count - 1)
    assert indices is None or found == indices


def test_a_loss_of_accuracy_is_refused_and_nothing_is_written(
    small_run: Path, bundle: Bundle, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibrated on black images, whose activations are far smaller, the ranges cut off those of digits."""

    def calibrate_on_black(path: Path, encoder: Path, images: Images) -> None:
        write_int8_encoder(path, encoder, torch.zeros(64, 28, 28, 1, dtype=torch.uint8))

    copy_graphs(monkeypatch, bundle)
    monkeypatch.setattr(partedvae.export.exporter, "write_int8_encoder", calibrate_on_black)
    arguments = [str(small_run), str(tmp_path / "mnist"), "--data", str(data_dir), "--precision", "int8"]
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 1
    assert "Error: precision 'int8': the accuracy of 'digit' on 10,000 test images falls from " in result.output
    assert ", by more than 0.1 percentage points; no bundle was written; export with --precision fp32" in result.output
    assert list((tmp_path / "mnist").iterdir()) == []


@pytest.mark.parametrize("reason", ["unlabelled", "unsupervised"])
def test_without_labels_the_classes_have_to_agree(
    folder: Path, tmp_path: Path, mnist: ImageDataset, reason: str
) -> None:
    test = _without_labels(mnist.test.first(2000)) if reason == "unlabelled" else mnist.test.first(2000)
    encoders = (folder / ENCODER_FILE, folder / ENCODER_FILE)
    result = check_int8_encoder(*encoders, test, ["digit"], [])
    assert (dict(result.accuracies), dict(result.agreements)) == ({}, {"digit": 1.0})
    assert set(result.relative_differences.values()) == {0.0}
    write_int8_encoder(tmp_path / "black.onnx", encoders[0], torch.zeros(64, 28, 28, 1, dtype=torch.uint8))
    message = r"the share of 2,000 test images with the same class of 'digit' falls from 100\.00% to \d+\.\d\d%"
    with pytest.raises(ExportError, match=message):
        check_int8_encoder(encoders[0], tmp_path / "black.onnx", test, ["digit"], [])


def test_outputs_that_differ_are_refused_although_the_classes_agree(
    folder: Path, tmp_path: Path, mnist: ImageDataset
) -> None:
    model = onnx.load(folder / ENCODER_FILE)
    (head,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("z_head.bias"))
    head.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(head) + np.float32(0.5), head.name))
    onnx.save(model, tmp_path / "moved.onnx")
    with pytest.raises(ExportError, match=r"z_mean differs by \d\.\d\d standard deviations on 500 test images; "):
        check_int8_encoder(folder / ENCODER_FILE, tmp_path / "moved.onnx", mnist.test.first(500), ["digit"], [])


def test_a_file_that_is_no_graph_is_an_error(tmp_path: Path, mnist: ImageDataset) -> None:
    (tmp_path / ENCODER_FILE).write_bytes(b"no graph")
    with pytest.raises(ExportError, match="the encoder cannot be quantized to 8-bit integers: "):
        write_int8_encoder(tmp_path / INT8_ENCODER_FILE, tmp_path / ENCODER_FILE, mnist.train.images)


def _without_labels(split: Split) -> Split:
    labels: Tensor = torch.full_like(split.labels, -1)
    return Split(images=split.images, labels=labels)
