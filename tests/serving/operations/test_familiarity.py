"""Tests of the check for images unlike the training images, against the scores of the tiny model in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partedvae.familiarity import FAMILIAR, INVERTED
from partedvae.serving.errors import BundleError
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.features import classify, features
from partedvae.serving.operations.model import DirectModel
from tests.bundles import GREY, TinyModel
from tests.familiar import IMAGES, INVERTED_SCORES, MODEL, SCORES, TEXTS


def loaded(model: TinyModel, folder: Path) -> DirectModel:
    return DirectModel(OnnxModel.load(model.write(folder / "tiny"), device="cpu", threads=1))


async def test_unfamiliar_images_have_a_higher_score(tmp_path: Path) -> None:
    """Above the limit of the manifest; where the score of the inverse is not, the text says so."""
    limit = MODEL.familiar_negative_elbo
    assert limit is not None
    assert (limit < SCORES).tolist() == [text != FAMILIAR for text in TEXTS]
    assert ((limit < SCORES) & (limit >= INVERTED_SCORES)).tolist() == [text == INVERTED for text in TEXTS]
    result = await features(loaded(MODEL, tmp_path), IMAGES, ("unfamiliar",))

    assert result.unfamiliar is not None
    assert result.unfamiliar.tolist() == TEXTS
    assert result.negative_elbo is None


async def test_the_score_is_returned_if_it_is_included(tmp_path: Path) -> None:
    result = await features(loaded(MODEL, tmp_path), IMAGES, ("unfamiliar", "negative_elbo"))

    assert result.negative_elbo is not None
    np.testing.assert_allclose(result.negative_elbo, SCORES, rtol=1e-5)


async def test_classes_are_checked_on_request(tmp_path: Path) -> None:
    model = loaded(MODEL, tmp_path)
    checked = await classify(model, IMAGES, check_familiarity=True)

    assert checked.unfamiliar is not None
    assert checked.unfamiliar.tolist() == TEXTS
    assert (await classify(model, IMAGES)).unfamiliar is None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (GREY, "version 1 of model 'tiny' does not know the negative ELBO of its training images, which 'unfamiliar'"),
        (TinyModel(has_scorer=False, familiar_negative_elbo=1.0), "version 1 of model 'tiny' has no scorer.onnx"),
    ],
    ids=["no range", "no scorer"],
)
async def test_a_bundle_of_an_earlier_export_is_not_checked(tmp_path: Path, model: TinyModel, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        await features(loaded(model, tmp_path), IMAGES, ("unfamiliar",))
