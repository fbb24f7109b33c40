"""Measures and warnings for models with known outputs."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from partedvae.training.config.architecture import FactorConfig
from partedvae.training.evaluation.diagnostics import collapse_warnings, label_warnings
from partedvae.training.evaluation.evaluation import (
    evaluate,
    evaluate_classes,
    evaluate_factor,
    share_of_dead_units,
)
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
    assert result.kl_c == pytest.approx(0.0, abs=1e-6)


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
    assert not any("q(c)" in text for text in collapse_warnings(evaluation, "partedvae", needs_classes=False))
    found = collapse_warnings(evaluation, "partedvae")
    assert found[0].startswith("q(c) has collapsed: ")
    assert f"I(x; c) of corner is 0.000 of 1.39 nats, q(c = 'top left') is {share}" in found[0]
    assert "I(x; c) of shade is 0.000 of 0.69 nats" in found[0]
    assert found[1].startswith("z has collapsed")


def warnings_of_labels(predictions: list[int], labels: list[int], consistency: float = 0.0) -> list[str]:
    """Return the warnings about factor f with these predictions and labels, and g, whose predictions are right."""
    model = dataclasses.replace(
        TOY_MODEL, factors=tuple(FactorConfig(name=n, classes=NAMES, prior=(0.25,) * 4, u_dim=1) for n in ("f", "g"))
    )
    config = tiny_config(model=model)
    config = dataclasses.replace(
        config, supervision=dataclasses.replace(config.supervision, consistency_weight=consistency)
    )
    probs, right = torch.eye(4)[predictions], torch.eye(4)[torch.tensor(labels).clamp(min=0)]
    factors = [
        evaluate_factor(name, NAMES, UNIFORM, of, torch.tensor(labels), True)
        for name, of in (("f", probs), ("g", right))
    ]
    return label_warnings(factors, config)


def test_a_class_most_of_whose_labelled_images_are_taken_for_another_is_named() -> None:
    found = warnings_of_labels([3, 3, 3, 0, 1, 2, 3], [0, 0, 0, 0, 1, 2, -1])
    assert found == [
        "most labelled training images of some classes are taken for others: f 'a', mostly for 'd' (3 of 4). Check "
        "these labels; if they are right, try another --seed, or more --labels"
    ]
    both = warnings_of_labels([1, 0], [0, 1], consistency=1.0)
    assert "f 'a', mostly for 'b' (1 of 1); f 'b', mostly for 'a' (1 of 1)." in both[0]
    assert "a lower supervision.consistency_weight, or" in both[0]
    # Right more often than any single other class.
    spread = warnings_of_labels([0, 0, 1, 2, 2, 3], [0, 0, 0, 0, 0, 0])
    assert "f 'a', mostly for 'c' (4 of 6)." in spread[0]


@pytest.mark.parametrize("predictions", [[0, 0, 1, 2], [0, 3, 1, 2]])
def test_labels_of_which_at_least_half_are_recognised_give_no_warning(predictions: list[int]) -> None:
    assert warnings_of_labels(predictions, [0, 0, 1, 2]) == []


def test_classes_alone_are_evaluated_as_with_the_latents() -> None:
    model, split, config = PartedVAE(TOY_MODEL), toy_split(64, 2), tiny_config()
    split.labels[:9, 1] = -1
    for alone, whole in zip(
        evaluate_classes(model, split, config), evaluate(model, split, config).factors, strict=True
    ):
        assert alone.name == whole.name
        assert torch.equal(alone.predictions, whole.predictions)
        assert torch.equal(alone.confusion, whole.confusion)
        assert alone.information == pytest.approx(whole.information, abs=1e-5)


def test_a_model_of_nans_counts_as_collapsed() -> None:
    model = PartedVAE(TOY_MODEL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    found = collapse_warnings(evaluate(model, toy_split(64, 2), tiny_config()), "partedvae")
    dead = "100% of the units of h are dead (they have the same value for every image)"
    assert [text.split(":")[0] for text in found] == ["q(c) has collapsed", "z has collapsed", dead]


def test_evaluation_has_the_number_of_images_and_every_factor() -> None:
    evaluation = evaluate(PartedVAE(TOY_MODEL), toy_split(64, 2), tiny_config())
    assert evaluation.images == 64
    assert [f.name for f in evaluation.factors] == ["corner", "shade"]
    assert sum(map(sum, evaluation.factors[0].confusion.tolist())) == 64


def model_with_dead_units(count: int) -> PartedVAE:
    """Return a model with ReLUs at h, of which so many are zero for every image and the others for none."""
    model = PartedVAE(dataclasses.replace(TOY_MODEL, leaky_slope=0.0))
    with torch.no_grad():
        model.trunk.hidden.bias.fill_(10.0)
        model.trunk.hidden.bias[:count] = -100.0
    return model


@pytest.mark.parametrize(("dead", "warned"), [(0, False), (16, False), (17, True), (32, True)])
def test_a_model_with_more_than_half_of_its_units_dead_gets_a_warning(dead: int, warned: bool) -> None:
    evaluation = evaluate(model_with_dead_units(dead), toy_split(64, 2), tiny_config())
    assert evaluation.dead_units == dead / 32
    found = [text for text in collapse_warnings(evaluation, "partedvae") if "of the units of h are dead" in text]
    assert len(found) == warned
    if warned:
        assert found[0].startswith(f"{dead / 32:.0%} of the units of h")
        assert "train again with model.leaky_slope=0.1" in found[0]


def test_a_few_images_are_too_few_to_call_units_dead() -> None:
    evaluation = evaluate(model_with_dead_units(32), toy_split(49, 2), tiny_config())
    assert evaluation.dead_units == 1.0
    assert not any("units of h" in text for text in collapse_warnings(evaluation, "partedvae"))


def test_a_unit_is_dead_if_it_hardly_changes_whatever_its_value() -> None:
    """Standard deviations 1, 0.5, 0.011 and 0.009 about 0, and 0 at 7."""
    signs = torch.tensor([[1.0], [-1.0]])
    hidden = torch.cat([signs * torch.tensor([1.0, 0.5, 0.011, 0.009]), torch.full((2, 1), 7.0)], dim=1)
    assert share_of_dead_units(hidden) == pytest.approx(2 / 5)
    assert share_of_dead_units(torch.zeros(3, 4)) == 1.0


def test_variances_are_those_of_the_posteriors_of_z_and_of_each_u() -> None:
    model = PartedVAE(TOY_MODEL)
    corner, shade = model.class_factors()
    with torch.no_grad():
        for linear, logvars in (
            (model.z_head, [0.0, 0.0, math.log(4.0)]),
            (corner.u_head, [math.log(0.5), math.log(0.25)]),
            (shade.u_head, [math.log(0.1)]),
        ):
            linear.weight.zero_()
            linear.bias[len(logvars) :] = torch.tensor(logvars)
    evaluation = evaluate(model, toy_split(64, 2), tiny_config())
    assert evaluation.z_variance == pytest.approx(2.0)
    assert evaluation.u_variances == pytest.approx({"corner": 0.375, "shade": 0.1})
