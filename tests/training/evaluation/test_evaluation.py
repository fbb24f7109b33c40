"""Measures and warnings for models with known outputs."""

from __future__ import annotations

import pytest
import torch

from partedvae.training.evaluation.diagnostics import collapse_warnings
from partedvae.training.evaluation.evaluation import evaluate, evaluate_factor
from partedvae.training.model.partedvae import PartedVAE
from tests.training.toys import TOY_MODEL, tiny_config, toy_split

UNIFORM = torch.full((4,), 0.25)
NAMES = ("a", "b", "c", "d")


def test_accuracy_and_confusion_count_labelled_images_only() -> None:
    probs = torch.eye(4)[[0, 1, 1, 3, 2]]
    result = evaluate_factor("f", NAMES, UNIFORM, probs, torch.tensor([0, 1, 2, 3, -1]), True)
    assert result.accuracy == pytest.approx(3 / 4)
    assert result.confusion.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert result.predictions.tolist() == [0, 1, 1, 3, 2]


def test_clusters_and_factors_without_labelled_images_have_no_accuracy() -> None:
    probs = torch.eye(4)
    assert evaluate_factor("f", NAMES, UNIFORM, probs, torch.arange(4), False).accuracy is None
    assert evaluate_factor("f", NAMES, UNIFORM, probs, torch.full((4,), -1), True).accuracy is None
    assert evaluate(PartedVAE(TOY_MODEL), toy_split(64, 2), tiny_config(labels=0)).accuracies == {}


def test_of_two_factors_only_the_one_with_training_labels_has_an_accuracy() -> None:
    counts = {"corner": 40, "shade": 0}
    evaluation = evaluate(PartedVAE(TOY_MODEL), toy_split(64, 2), tiny_config(), counts)
    assert list(evaluation.accuracies) == ["corner"]
    assert [factor.supervised for factor in evaluation.factors] == [True, False]


def test_the_information_of_a_certain_and_balanced_posterior_is_the_prior_entropy() -> None:
    result = evaluate_factor("f", NAMES, UNIFORM, torch.eye(4), torch.arange(4), True)
    assert result.information == pytest.approx(result.prior_entropy)
    assert result.prior_mismatch == pytest.approx(0.0, abs=1e-6)


def collapsed_model(weight: float) -> PartedVAE:
    """Return a model whose q(c | x) is the same for every image: one class, or uniform."""
    model = PartedVAE(TOY_MODEL)
    with torch.no_grad():
        for factor in model.class_factors():
            factor.logits.weight.zero_()
            factor.logits.bias.zero_()
            factor.logits.bias[0] = weight
        model.z_head.weight.zero_()
    return model


@pytest.mark.parametrize(("weight", "share"), [(50.0, "100%"), (0.0, "25%")])
def test_both_kinds_of_collapse_are_detected_and_described(weight: float, share: str) -> None:
    evaluation = evaluate(collapsed_model(weight), toy_split(64, 2), tiny_config())
    found = collapse_warnings(evaluation, "partedvae")
    assert found[0].startswith("q(c) has collapsed: ")
    assert f"I(x; c) of corner is 0.000 of 1.39 nats, q(c = 'top left') is {share}" in found[0]
    assert "I(x; c) of shade is 0.000 of 0.69 nats" in found[0]
    assert found[1].startswith("z has collapsed")


def test_a_model_of_nans_counts_as_collapsed() -> None:
    model = PartedVAE(TOY_MODEL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    found = collapse_warnings(evaluate(model, toy_split(64, 2), tiny_config()), "partedvae")
    assert [text.split(":")[0] for text in found] == ["q(c) has collapsed", "z has collapsed"]


def test_evaluation_has_the_number_of_images_and_every_factor() -> None:
    evaluation = evaluate(PartedVAE(TOY_MODEL), toy_split(64, 2), tiny_config())
    assert evaluation.images == 64
    assert [f.name for f in evaluation.factors] == ["corner", "shade"]
    assert sum(map(sum, evaluation.factors[0].confusion.tolist())) == 64
