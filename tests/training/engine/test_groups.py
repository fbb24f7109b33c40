"""Labels of groups: which images get one, what is refused, and how a run is trained with them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from partedvae.training.cli.train import train as train_command
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, Chosen, ImageDataset, Split, first_labelled
from partedvae.training.distributed import SINGLE_PROCESS
from partedvae.training.engine import groups as groups_module
from partedvae.training.engine.device import prepare
from partedvae.training.engine.groups import GroupLabels, agreement, group_labels, named_groups
from partedvae.training.engine.trainer import Trainer
from partedvae.training.evaluation.evaluation import evaluate
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.directory import RunDirectory, RunError
from tests.training.toys import TOY_MODEL, tiny_config, toy_dataset, toy_split

CORNERS = np.array([[0, 0], [0, 8], [8, 0], [8, 8]])


def points_of(classes: np.ndarray, spread: float = 1.0) -> np.ndarray:
    """Return points around the corner of a square of each class [images, 2]."""
    noise = np.random.default_rng(0).normal(scale=spread, size=(len(classes), 2))
    points: np.ndarray = (CORNERS[classes] + noise).astype(np.float32)
    return points


def test_every_group_has_the_label_of_the_image_in_it() -> None:
    classes = np.concatenate([[2, 0, 3, 1], np.random.default_rng(1).integers(0, 4, size=300)])
    groups = named_groups(points_of(classes), np.array([2, 0, 3, 1]), 4, seed=0)
    assert (groups == classes).mean() > 0.99


def test_a_group_without_a_labelled_image_has_no_label() -> None:
    classes = np.concatenate([[2, 0, 2], np.random.default_rng(1).integers(0, 4, size=300)])
    groups = named_groups(points_of(classes), np.array([2, 0, UNLABELLED]), 4, seed=0)
    assert sorted(np.unique(groups)) == [UNLABELLED, 0, 2]
    assert (groups[np.isin(classes, (1, 3))] == UNLABELLED).mean() > 0.99
    assert (groups == classes)[np.isin(classes, (0, 2))].mean() > 0.99


def test_images_between_two_groups_have_no_label() -> None:
    classes = np.concatenate([[0, 1, 2, 3], np.random.default_rng(1).integers(0, 4, size=400)])
    points = points_of(classes, spread=2.5)
    named = named_groups(points, np.arange(4), 4, seed=0, share=0.8) != UNLABELLED
    assert 0.78 < named.mean() < 0.82
    between = np.abs(points - 4).min(axis=1)
    assert between[named].mean() > 3 * between[~named].mean()


@pytest.mark.parametrize(("labels", "share"), [("of their groups", 1.0), ("by chance", 0.25)])
def test_other_labels_tell_whether_groups_show_the_classes(labels: str, share: float) -> None:
    random = np.random.default_rng(3)
    groups = random.integers(0, 4, size=300)
    given = groups[:60] if labels == "of their groups" else random.integers(0, 4, size=60)
    found = agreement(points_of(groups, 0.3), given, 4, seed=0)
    assert (found.labels, found.classes, found.is_poor) == (60, 4, labels == "by chance")
    assert found.share == pytest.approx(share, abs=0.2)


def test_a_label_whose_class_no_other_label_has_is_not_compared() -> None:
    """And with few labels to compare, groups are trusted."""
    groups = np.random.default_rng(3).integers(0, 4, size=100)
    found = agreement(points_of(groups), np.arange(4), 4, seed=0)
    assert (found.labels, found.classes, found.is_poor) == (0, 0, False)


@pytest.mark.parametrize("others", [1, 2])
def test_a_frequent_class_does_not_stand_for_a_rare_one(others: int) -> None:
    """Nine images without glasses and one or two with, in groups of something else."""
    groups = np.concatenate([[0] * 9, [0] * others, np.random.default_rng(5).integers(0, 2, size=300)])
    labels = np.array([0] * 9 + [1] * others)
    found = agreement(points_of(groups), labels, 2, seed=0)
    assert (found.labels, found.is_poor) == (9 + others - (others == 1), True)


def test_of_fewer_different_images_than_classes_none_gets_a_label() -> None:
    points = np.repeat(np.array([[0, 1], [1, 0]], dtype=np.float32), 50, axis=0)
    assert set(named_groups(points, np.array([0, 1, 2]), 3, seed=0)) == {UNLABELLED}


def features_run(path: Path, **changes: object) -> RunDirectory:
    """Write a run of features, whose model tells the toys apart as well as an untrained one does."""
    config = dataclasses.replace(
        tiny_config(labels=0, recipe="features"),
        objective=dataclasses.replace(tiny_config().objective, gamma_contrast=1000.0),
    )
    config = dataclasses.replace(config, **changes)  # type: ignore[arg-type]  # fields by name
    run = RunDirectory(path)
    run.start(config, toy_dataset(), torch.empty(0, dtype=torch.int64), "cpu")
    prepare(0)
    run.save_checkpoint({"final_model": PartedVAE(config.model).state_dict()})
    run.summary_file.write_text(json.dumps({}))
    return run


def config_of(run: RunDirectory, labels: int = 40) -> TrainConfig:
    return tiny_config(features_run=str(run.path), labels=labels)


def test_images_without_a_label_get_that_of_their_group(tmp_path: Path) -> None:
    """Positions are told apart by an untrained network, too: an image and its noise."""
    config = config_of(features_run(tmp_path / "features"), labels=4)
    train = toy_split(320, 1)
    labelled = torch.stack([torch.nonzero(train.labels[:, 0] == corner)[0, 0] for corner in range(4)])
    # What is known of the shade is not what groups show.
    labels = torch.full_like(train.labels, UNLABELLED)
    labels[labelled, 0] = train.labels[labelled, 0]
    groups = group_labels(config, Split(images=train.images, labels=labels), labelled)
    assert set(groups.images.tolist()).isdisjoint(labelled.tolist())
    assert 0.7 * 320 < len(groups.images) < 0.85 * 320
    assert (groups.labels[:, 1] == UNLABELLED).all()
    assert (groups.labels[:, 0] == train.labels[groups.images, 0]).float().mean() > 0.5
    again = group_labels(config, Split(images=train.images, labels=labels), labelled)
    assert torch.equal(groups.labels, again.labels), "a resumed run has the same"


def test_a_factor_that_groups_do_not_show_gets_no_label_and_is_named(tmp_path: Path) -> None:
    run = features_run(tmp_path / "features", dataset="others")
    train = toy_split(320, 1)
    train.labels[:, 1] = torch.randint(2, (320,), generator=torch.Generator().manual_seed(4))
    groups = group_labels(config_of(run), train, torch.arange(60))
    assert (groups.labels[:, 1] == UNLABELLED).all()
    told = "\n".join(groups.notes)
    assert f"{run.path} was trained on others, not on toys; its groups may mean less" in told
    assert f"the groups of {run.path} do not show the classes of shade: on average over classes, they have" in told
    assert "% of the 60 labels that were compared. Other images get no label of it" in told


def test_groups_by_other_proportions_are_noted(tmp_path: Path) -> None:
    run = features_run(tmp_path / "features", dataset="folder:photos", fit="pad")
    groups = group_labels(config_of(run), toy_split(64, 1), torch.arange(8))
    assert f"{run.path} was trained with --fit pad, not stretch; its groups may mean less" in groups.notes


def test_many_labels_get_none_of_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "MOST_LABELS", 39)
    groups = group_labels(config_of(features_run(tmp_path / "features")), toy_split(64, 1), torch.arange(40))
    assert (len(groups.images), groups.notes) == (0, ("40 labels are enough without those of groups",))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "is not a run directory: config.json is missing"),
        ("not features", "as its objective.gamma_contrast is 0; pass a run of --recipe features as --features"),
        ("unfinished", "has not ended; continue it with 'partedvae train --resume"),
        ("size", "are 32x32x1, those of toys 16x16x1; train features of these with 'partedvae train toys --recipe"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, fault: str, message: str) -> None:
    changes: dict[str, object] = {}
    if fault == "not features":
        changes = {"objective": tiny_config().objective}
    if fault == "size":
        changes = {"model": dataclasses.replace(TOY_MODEL, image_size=(32, 32, 1))}
    run = features_run(tmp_path / "features", **changes)
    if fault == "unfinished":
        run.summary_file.unlink()
    if fault == "missing":
        run = RunDirectory(tmp_path / "nothing")
    with pytest.raises(RunError, match=message):
        group_labels(config_of(run), toy_split(64, 1), torch.arange(8))


def test_groups_need_labels() -> None:
    with pytest.raises(ValueError, match="get the labels of labelled images; pass --labels, or omit --features"):
        tiny_config(labels=0, features_run="runs/features")
    with pytest.raises(ValueError, match="method 'vae' does not use labels; omit --features"):
        tiny_config(labels=0, method="vae", features_run="runs/features")


@pytest.mark.parametrize("own", [3, 40])
def test_at_most_half_of_a_supervised_batch_are_own_labels(own: int) -> None:
    train = toy_dataset().train
    images = torch.arange(100, 200)
    groups = GroupLabels(images, torch.stack([torch.full((100,), UNLABELLED), train.labels[images, 1]], dim=1))
    trainer = Trainer(tiny_config(), train, first_labelled(train, own), SINGLE_PROCESS, groups)
    assert trainer.labelled_batches is not None
    batch = trainer.labelled_batches[5]
    assert [len(batch), int((batch < own).sum())] == [16, min(own, 8)]
    assert torch.equal(trainer.labels[own:], groups.labels)
    losses = trainer.train_step()
    assert torch.isfinite(losses["supervised"])


def test_labels_of_groups_are_learned() -> None:
    """Without an own label of the shade, and of images that are read on access."""
    train = toy_dataset().train
    labels = train.labels.clone()
    labels[:, 1] = UNLABELLED
    images = torch.arange(40, 320)
    groups = GroupLabels(images, torch.stack([torch.full((280,), UNLABELLED), train.labels[images, 1]], dim=1))
    split = Split(images=Chosen(train.images, torch.arange(320)), labels=labels)
    prepare(0)
    config = tiny_config(epochs=1)
    config = dataclasses.replace(config, supervision=dataclasses.replace(config.supervision, warm_start_steps=150))
    trainer = Trainer(config, split, torch.arange(40), SINGLE_PROCESS, groups)
    trainer.warm_start()
    evaluation = evaluate(trainer.model, toy_dataset().test, config, {"corner": 40, "shade": 280})
    assert evaluation.accuracies["shade"] > 0.9


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_run_with_labels_of_groups_resumes_exactly(
    tmp_path: Path, data_dir: Path, mnist: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the run of features is gone, too: labels of groups are in the run directory."""
    small = ["--set", "model.encoder_channels=8,8,8", "--set", "model.decoder_channels=8,8,8", "--no-measure"]
    small += ["--set", "model.hidden_dim=32", "--set", "train_images=640", "--precision", "32-true"]

    def run_train(*arguments: str) -> Result:
        return CliRunner().invoke(train_command, [*arguments, "--data", str(data_dir), "--threads", "1"])

    whole, part = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "part")
    save = RunDirectory.save_checkpoint

    def save_and_copy(run: RunDirectory, state: dict[str, Any]) -> None:
        save(run, state)
        if run.path == Path("whole") and not part.path.exists():
            shutil.copytree(run.path, part.path)

    monkeypatch.chdir(tmp_path)
    # A network of a few steps does not show the digits.
    monkeypatch.setattr(groups_module, "AGREEMENT", 0.0)
    done = run_train("mnist", "--recipe", "features", "--epochs", "1", "--output", "features", *small)
    assert done.exit_code == 0, done.output
    monkeypatch.setattr(RunDirectory, "save_checkpoint", save_and_copy)
    options = ["mnist", "--labels", "40", "--features", "features", "--epochs", "2", *small]
    done = run_train(*options, "--output", "whole")
    assert done.exit_code == 0, done.output
    assert "labels of groups: digit of " in done.stderr
    assert " from 40 labels and those of groups, " in done.stdout
    counts = whole.load_provenance()["group_label_counts"]
    assert counts == {"digit": len(torch.load(whole.groups_file, weights_only=True)["images"])}
    assert counts["digit"] > 300
    assert whole.load_config().features_run == str(tmp_path / "features")
    assert part.load_checkpoint(torch.device("cpu"))["epoch"] == 1

    shutil.rmtree(tmp_path / "features")
    other = run_train("--resume", str(part.path), "--features", str(tmp_path / "whole"))
    assert other.exit_code == 1
    assert "cannot resume: the run was started with features_run" in other.stderr
    done = run_train("--resume", str(part.path))
    assert done.exit_code == 0, done.output
    ends = [run.load_checkpoint(torch.device("cpu"))["final_model"] for run in (whole, part)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
