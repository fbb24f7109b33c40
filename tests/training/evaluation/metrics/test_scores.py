"""All scores of a model, from its images to the report."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from partedvae.training.evaluation.evaluation import Evaluation
from partedvae.training.evaluation.measures import Measures
from partedvae.training.evaluation.metrics import dci, factor_vae
from partedvae.training.evaluation.metrics.dci import Predictor
from partedvae.training.evaluation.metrics.representation import Representation, represent
from partedvae.training.evaluation.metrics.scores import disentanglement_scores
from partedvae.training.model.networks import preprocess
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.reports.evaluation import Report
from tests.training.evaluation.metrics.codes import NAMES, blurred, collapsed, grid, perfect
from tests.training.toys import TOY_MODEL, tiny_config, toy_split

pytestmark = pytest.mark.slow

VALUES = grid()


@pytest.fixture
def _few_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute scores quickly, and less exactly."""
    monkeypatch.setattr(factor_vae, "TRAINING_VOTES", 1_000)
    monkeypatch.setattr(factor_vae, "EVALUATION_VOTES", 500)
    monkeypatch.setattr(dci, "TREES", 3)


def test_a_perfect_code_has_the_best_value_of_every_score() -> None:
    scores = disentanglement_scores(perfect(VALUES), VALUES, NAMES, seed=0)
    summary = scores.summary()
    sap = summary.pop("sap")
    assert summary == pytest.approx(dict.fromkeys(summary, 1.0), abs=1e-6)
    assert list(summary) == [
        "factor_vae",
        "factor_paper",
        "mig",
        "dci_disentanglement",
        "dci_completeness",
        "dci_informativeness",
    ]
    assert 0.2 < sap < 0.5


def test_a_collapsed_code_has_no_score_and_no_nan() -> None:
    report = disentanglement_scores(collapsed(VALUES), VALUES, NAMES, seed=0).report()
    informativeness = report["scores"].pop("dci_informativeness")
    assert report["scores"] == dict.fromkeys(report["scores"], 0.0)
    assert informativeness == pytest.approx(0.234, abs=0.05)
    assert "NaN" not in json.dumps(report)


@pytest.mark.usefixtures("_few_votes")
def test_the_same_seed_gives_the_same_report_and_it_is_json() -> None:
    first, again = (disentanglement_scores(blurred(VALUES), VALUES, NAMES, seed=3).report() for _ in range(2))
    assert json.loads(json.dumps(first)) == again
    assert first["images"] == len(VALUES)
    assert list(first["mig_by_factor"]) == list(NAMES)
    for name, table in first["tables"].items():
        assert np.shape(table) == (5, 4), name
    assert first["active_dims"] == {"factor_vae": [True] * 5, "factor_paper": [True] * 4 + [False]}


@pytest.mark.usefixtures("_few_votes")
def test_factors_that_do_not_vary_are_left_out() -> None:
    """Like the colour of dSprites, which is always white."""
    values = np.concatenate([np.zeros((len(VALUES), 1), dtype=np.int64), VALUES], axis=1)
    scores = disentanglement_scores(perfect(VALUES), values, ("colour", *NAMES), seed=0)
    assert scores.factors == NAMES
    assert scores.factor_vae.score == 1.0
    with pytest.raises(ValueError, match=r"none of the factors \('colour',\) has two values among 4096 images"):
        disentanglement_scores(perfect(VALUES), values[:, :1], ("colour",), seed=0)


class Recorded:
    """Images that are created on access and record the sizes of the batches."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.requested: list[int] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor) -> Tensor:
        self.requested.append(len(indices))
        return self.images[indices]


def test_a_representation_is_the_posterior_means_of_images_in_order_read_batch_by_batch() -> None:
    model = PartedVAE(TOY_MODEL)
    images = Recorded(toy_split(1_100, 5).images[torch.arange(1_100)])
    reported: list[int] = []
    representation = represent(model, images, tiny_config(), reported.append)
    assert images.requested == reported == [500, 500, 100]
    with torch.no_grad():
        posterior = model.encode(preprocess(images.images, (16, 16)), slope=tiny_config().schedule.attention_slope)
    np.testing.assert_allclose(representation.u_mean, posterior.u_mean, atol=1e-5)
    np.testing.assert_allclose(representation.z_mean, posterior.z.mean, atol=1e-5)
    np.testing.assert_allclose(representation.z_logvar, posterior.z.logvar, atol=1e-5)
    assert representation.u_mean.dtype == representation.z_mean.dtype == np.float32
    np.testing.assert_array_equal(
        representation.joined, np.concatenate([representation.z_mean, representation.u_mean], axis=1)
    )


def test_samples_have_the_moments_of_the_posteriors() -> None:
    mean, logvar = np.full((20_000, 1), 2.0, np.float32), np.full((20_000, 1), np.log(9), np.float32)
    posterior = Representation(mean, -mean, logvar, logvar - 100)
    samples = posterior.samples(np.random.default_rng(0))
    assert samples.u.mean() == pytest.approx(2, abs=0.1)
    assert samples.u.std() == pytest.approx(3, abs=0.1)
    np.testing.assert_allclose(samples.z, -2, atol=1e-5)
    assert samples.u.dtype == np.float32
    assert posterior.means.u is mean


@pytest.mark.parametrize(
    ("predictor", "note"),
    [
        (
            "forest",
            "importances of dci: random forests; compare only those of --dci boosting with published scores",
        ),
        ("boosting", "importances of dci: gradient boosting, as in disentanglement_lib"),
    ],
)
def test_the_report_names_the_importances_of_dci(predictor: Predictor, note: str) -> None:
    values = grid((2, 3), copies=60)
    scores = disentanglement_scores(perfect(values), values, ("two", "three"), 0, predictor)
    evaluation = Evaluation(
        images=0, factors=(), reconstruction=1.0, kl_z=1.0, z_spread=1.0, z_variance=1.0, u_variances={}, dead_units=0.0
    )
    model = dataclasses.replace(TOY_MODEL, factors=())
    config = tiny_config("paper", method="vae", labels=0, model=model)
    report = Report(
        config=config, evaluation=evaluation, model_warnings=[], measures=Measures(), scores=scores, source={}
    )
    assert note in report.to_text().splitlines()
    assert report.to_dict()["disentanglement"]["dci_predictor"] == predictor
