"""Tests of the scorer: the optional third graph of a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from partedvae.serving.bundle import DECODER_FILE, ENCODER_FILE, SCORER_FILE, SCORER_OUTPUTS, load_bundle, write_bundle
from partedvae.serving.errors import BundleError
from partedvae.serving.onnx.model import MAX_ROWS, OnnxModel
from partedvae.serving.operations.features import features
from partedvae.serving.operations.model import DirectModel, run_sync
from tests.bundles import GREY, TinyModel


@pytest.mark.parametrize("count", [1, MAX_ROWS + 1])
def test_scores_are_those_of_the_graph(tiny_models: Path, count: int) -> None:
    """All outputs in order, also when the batch is run in slices."""
    model = OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"))
    images = GREY.random_images(count)
    scores = model.score(images, SCORER_OUTPUTS)

    assert model.has_scores
    for name, expected in GREY.score(images).items():
        assert scores[name].shape == (count,)
        np.testing.assert_allclose(scores[name], expected, rtol=1e-5, err_msg=name)


def test_scores_alone_run_no_encoder(tiny_models: Path) -> None:
    """Outputs that are not included are None."""
    model = OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"))
    result = run_sync(features(DirectModel(model), GREY.random_images(2), ["reconstruction_error"]))

    assert result.reconstruction_error is not None
    assert (result.negative_elbo, result.z, result["digit"].probs) == (None, None, None)


def test_a_bundle_without_a_scorer_loads_and_says_what_to_do(tmp_path: Path) -> None:
    """Bundles of older exports are served; scores are not available."""
    bundle = TinyModel(has_scorer=False).write(tmp_path / "old")
    model = OnnxModel.load(bundle)

    assert bundle.scorer_path is None
    assert [file.name for file in bundle.manifest.files] == [ENCODER_FILE, DECODER_FILE]
    assert not model.has_scores
    message = r"version 1 of model 'old' has no scorer\.onnx, which .* need; export the run again"
    with pytest.raises(BundleError, match=message):
        model.score(GREY.random_images(1), ["negative_elbo"])
    with pytest.raises(BundleError, match=message):
        run_sync(features(DirectModel(model), GREY.random_images(1), ["probs", "negative_elbo"]))


def test_the_manifest_lists_the_scorer_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    bundle = GREY.write(tmp_path / "tiny")
    assert [file.name for file in bundle.manifest.files] == [ENCODER_FILE, DECODER_FILE, SCORER_FILE]
    assert bundle.scorer_path is not None
    bundle.scorer_path.write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"scorer\.onnx is damaged: its SHA-256 is .*export the run again"):
        load_bundle(bundle.folder)
    bundle.scorer_path.unlink()
    with pytest.raises(BundleError, match=r"scorer\.onnx is missing; export the run again"):
        load_bundle(bundle.folder)


def test_a_scorer_of_another_model_is_refused(tmp_path: Path) -> None:
    """It is checked against the manifest like the other graphs."""

    def write_graphs(folder: Path) -> None:
        (folder / ENCODER_FILE).write_bytes(GREY.encoder_graph().SerializeToString())
        (folder / DECODER_FILE).write_bytes(GREY.decoder_graph().SerializeToString())
        (folder / SCORER_FILE).write_bytes(replace(GREY, width=7).scorer_graph().SerializeToString())

    bundle = write_bundle(tmp_path / "tiny", GREY.manifest(), write_graphs)
    with pytest.raises(BundleError, match=r"scorer\.onnx: the input 'images' is tensor\(uint8\) \['batch', 8, 7, 1\]"):
        OnnxModel.load(bundle)
