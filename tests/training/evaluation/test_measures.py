"""All measures of a model together: their form, and the warnings they give."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from partedvae.training.data.dataset import Amount, ImageDataset, Truth
from partedvae.training.evaluation import oracle
from partedvae.training.evaluation.diagnostics import separation_warnings
from partedvae.training.evaluation.evaluation import evaluate
from partedvae.training.evaluation.measures import Measures, measure
from partedvae.training.evaluation.metrics import probes
from partedvae.training.evaluation.metrics.generation import Generation
from partedvae.training.evaluation.metrics.probes import Probe, Separation
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.reports.measures import measure_lines
from tests.training.toys import TOY_INFO, TOY_MODEL, tiny_config, toy_dataset, toy_split

COUNTS = {"corner": 40, "shade": 40}


def generated(classes: dict[str, float] | None, factor: str = "corner") -> Generation:
    return Generation(
        factor=factor,
        oracle=0.99,
        classes=classes,
        exchange=0.5,
        redraw=0.25,
        reconstruction=0.75,
        diversity=None if classes is None else 0.625,
    )


def separated(u: float, z: float, factor: str = "corner") -> Separation:
    return Separation(
        factor=factor,
        z=Probe(0.25, z),
        u=Probe(0.5, u),
        z_samples=Probe(0.125, 0.375),
        u_samples=Probe(0.5, 0.625),
        chance=0.25,
        rows=40,
        train_images=32,
        folds=5,
    )


MEASURES = Measures(
    generations=(generated({"top left": 0.5, "top right": 1.0}), generated(None, "shade")),
    separations=(separated(0.75, 0.875),),
)


def warnings_of(measures: Measures, counts: dict[str, int] = COUNTS) -> list[str]:
    evaluation = evaluate(PartedVAE(TOY_MODEL), toy_split(64, 2), tiny_config(), counts)
    return separation_warnings(evaluation, measures)


def test_measures_are_numbers_by_name_for_manifests() -> None:
    assert MEASURES.flat() == {
        "oracle_accuracy/corner": 0.99,
        "generation/corner": 0.75,
        "generation_worst/corner": 0.5,
        "generation/corner/top left": 0.5,
        "generation/corner/top right": 1.0,
        "exchange/corner": 0.5,
        "redraw/corner": 0.25,
        "reconstruction/corner": 0.75,
        "diversity/corner": 0.625,
        "oracle_accuracy/shade": 0.99,
        "exchange/shade": 0.5,
        "redraw/shade": 0.25,
        "reconstruction/shade": 0.75,
        "probe_u_linear/corner": 0.5,
        "probe_u_mlp/corner": 0.75,
        "probe_z_linear/corner": 0.25,
        "probe_z_mlp/corner": 0.875,
        "probe_u_samples_linear/corner": 0.5,
        "probe_u_samples_mlp/corner": 0.625,
        "probe_z_samples_linear/corner": 0.125,
        "probe_z_samples_mlp/corner": 0.375,
        "probe_chance/corner": 0.25,
    }


def test_a_class_in_z_and_poor_generation_give_a_warning_each_with_a_remedy() -> None:
    in_z, poor = warnings_of(dataclasses.replace(MEASURES, separations=(separated(0.5, 0.875),)))
    assert in_z.startswith(
        "the class is in z rather than in u: a network predicts corner from z in 87.5% of 40 images, from u in 50.0%. "
    )
    assert poor.startswith(
        "images drawn for a class do not show it: corner is seen in 75.0% of them, and 'top left' in 50.0%. Raise "
    )
    assert "objective.gamma_exchange" in in_z
    assert "objective.gamma_exchange" in poor


def test_a_single_class_that_is_not_drawn_gives_a_warning_even_if_the_others_are() -> None:
    lost = {f"class {k}": 1.0 for k in range(9)} | {"top left": 0.4}
    (poor,) = warnings_of(Measures(generations=(generated(lost),), separations=(separated(0.9, 0.9),)))
    assert "corner is seen in 94.0% of them, and 'top left' in 40.0%" in poor
    enough = lost | {"top left": 0.5}
    assert warnings_of(Measures(generations=(generated(enough),), separations=(separated(0.9, 0.9),))) == []


def test_a_good_model_and_a_factor_without_training_labels_give_none() -> None:
    good = Measures(generations=(generated({"top left": 0.8, "top right": 0.8}),), separations=(separated(0.9, 0.9),))
    assert warnings_of(good) == []
    in_z = dataclasses.replace(MEASURES, separations=(separated(0.5, 0.875),))
    assert warnings_of(in_z, {"corner": 0, "shade": 40})[1:] == []


def test_a_difference_that_few_images_can_have_by_chance_gives_no_warning() -> None:
    difference = separated(0.75, 0.875)
    assert warnings_of(Measures(separations=(difference,))) == []
    assert len(warnings_of(Measures(separations=(difference._replace(rows=2_000, folds=0),)))) == 1


def test_generation_is_compared_with_what_the_oracle_sees() -> None:
    seen = generated({"top left": 0.75, "top right": 0.75})
    assert len(warnings_of(Measures(generations=(seen,)))) == 1
    assert warnings_of(Measures(generations=(dataclasses.replace(seen, oracle=0.9),))) == []


def test_the_tables_show_the_worst_class_and_how_many_images_were_probed() -> None:
    lines = list(measure_lines(MEASURES))
    table = {line.split("  ")[0]: line.split() for line in lines}
    assert table["corner"][-7:] == ["samples", "50.0%", "62.5%", "12.5%", "37.5%", "25.0%", "40"]
    (row,) = (line.split() for line in lines if line.split()[:2] == ["corner", "75.0%"])
    assert row == ["corner", "75.0%", "50.0%", "(top", "left)", "50.0%", "25.0%", "75.0%", "0.62", "99.0%"]
    assert table["shade"] == ["shade", "–", "–", "50.0%", "25.0%", "75.0%", "–", "99.0%"]
    assert "corner drawn: top left 50%, top right 100%" in lines
    assert "corner: 5-fold cross-validation on 40 labelled images, 8 for testing and 32 for training" in lines


@pytest.mark.slow
def test_a_data_set_with_few_labels_is_probed_but_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "SMALL_ITERATIONS", 20)
    model, config, dataset = PartedVAE(TOY_MODEL), tiny_config(), toy_dataset()
    measures = measure(model, dataset, config, evaluate(model, dataset.test, config, COUNTS), tmp_path)
    assert measures.generations == ()
    assert measures.no_oracle == (
        "decoded images are not judged: corner has 320 labelled training and 64 labelled test images; shade has 320 "
        "labelled training and 64 labelled test images, and an oracle needs 1,000 and 100"
    )
    assert [s.factor for s in measures.separations] == ["corner", "shade"]
    assert measures.separations[0].rows == 64 + 320
    assert measures.separations[0].train_images == 320
    assert measures.no_oracle in measure_lines(measures)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_data_set_with_labels_and_an_amount_has_all_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The amount of an image's brightness is known for one class; the u of an untrained model has some of it."""
    for name, value in {"FEWEST_LABELS": 300, "FEWEST_TESTS": 50, "MAX_EPOCHS": 3}.items():
        monkeypatch.setattr(oracle, name, value)
    monkeypatch.setattr(probes, "UPDATES", 200)
    train, test = toy_split(320, 1), toy_split(220, 2)
    brightness = train.images[torch.arange(320)].double().mean(dim=(1, 2, 3))
    inside = train.labels[:, 0] == 1
    amount = Amount(name="light", factor="corner", label="top right", values=torch.where(inside, brightness, torch.nan))
    truth = Truth(images=train.images, names=("corner", "shade"), values=train.labels, amounts=(amount,))
    dataset = ImageDataset(info=TOY_INFO, train=train, test=test, source={"toys": "drawn"}, truth=truth)
    model, config = PartedVAE(TOY_MODEL), tiny_config()
    measures = measure(model, dataset, config, evaluate(model, test, config, COUNTS), tmp_path)
    assert [g.factor for g in measures.generations] == ["corner", "shade"]
    assert measures.no_oracle == ""
    assert measures.separations[0].train_images == measures.separations[0].folds == 0
    (score,) = measures.amounts
    assert (score.factor, score.label, score.amount, score.rows) == ("corner", "top right", "light", int(inside.sum()))
    assert 0.5 < score.u <= 1
    assert 0.5 < score.z <= 1
    flat = measures.flat()
    assert flat["amount_u/corner/top right"] == score.u
    assert {"generation/corner", "generation/shade", "probe_z_mlp/shade", "diversity/corner"} <= set(flat)
    assert any(line.startswith("light of corner 'top right'") for line in measure_lines(measures))


def test_methods_without_u_are_not_measured(tmp_path: Path) -> None:
    model, dataset = PartedVAE(dataclasses.replace(TOY_MODEL, factors=())), toy_dataset()
    config = dataclasses.replace(tiny_config(labels=0), method="vae", model=model.config)
    assert measure(model, dataset, config, evaluate(model, dataset.test, config), tmp_path) == Measures()
