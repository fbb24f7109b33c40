"""A run whose data set has changed since training."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from click import Command
from click.testing import CliRunner
from PIL import Image

from partedvae.training.cli.evaluate import evaluate
from partedvae.training.cli.figures import figures
from partedvae.training.cli.train import train
from partedvae.training.config.recipes import recipe
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import DataError, ImageDataset, first_labelled
from partedvae.training.data.registry import load_dataset
from partedvae.training.evaluation.metrics import probes
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.data import MOST_LABELLED, check_run_dataset, labelled_images, load_run_dataset
from partedvae.training.runs.directory import RunDirectory, RunError
from tests.training.toys import TOY_INFO, TOY_MODEL, tiny_config, toy_dataset

CORNER, SHADE = TOY_INFO.factors


@pytest.fixture(autouse=True)
def _few_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit probes quickly: untrained models have nothing to find."""
    monkeypatch.setattr(probes, "SMALL_ITERATIONS", 5)


def untrained(path: Path, config: TrainConfig, dataset: ImageDataset) -> RunDirectory:
    """Write a run with an untrained model."""
    run = RunDirectory(path)
    run.start(config, dataset, first_labelled(dataset.train, config.labels), "cpu")
    run.save_checkpoint({"final_model": PartedVAE(config.model).state_dict()})
    return run


def test_all_devices_of_a_run_are_recorded(tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", tiny_config(), toy_dataset())
    written = run.provenance_file.stat().st_mtime_ns
    run.add_device("cpu")
    assert run.provenance_file.stat().st_mtime_ns == written
    run.add_device("NVIDIA H200")
    assert run.devices() == ["cpu", "NVIDIA H200"]
    provenance = run.load_provenance()
    del provenance["machine"]
    run.provenance_file.write_text(json.dumps(provenance))
    assert run.devices() == ["unknown"]
    run.add_device("cpu")
    assert run.devices() == ["unknown", "cpu"]


def write_labels(folder: Path, classes: Sequence[str]) -> None:
    """Label all images of a folder with the classes in turn."""
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "hat"])
        table.writerows(
            [[image.name, classes[k % len(classes)]] for k, image in enumerate(sorted(folder.glob("*.png")))]
        )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of grey images of two classes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(24):
        Image.new("L", (32, 32), 10 * k).save(folder / f"{k:02}.png")
    write_labels(folder, ("no", "yes"))
    return folder


@pytest.mark.parametrize("command", [evaluate, figures])
def test_a_folder_with_a_new_class_is_rejected(photos: Path, tmp_path: Path, command: Command) -> None:
    dataset = load_dataset(f"folder:{photos}", Path())
    run = untrained(tmp_path / "run", recipe(dataset.info, "default"), dataset)
    write_labels(photos, ("no", "perhaps", "yes"))
    result = CliRunner().invoke(command, [str(run.path)])
    assert result.exit_code == 1
    assert (
        f"Error: folder:{photos} does not match the data that {run.path} was trained on: the classes of "
        "its factor 'hat' are 'no', 'perhaps', 'yes', those of the run 'no', 'yes'; "
        "restore the data set, or train a new run"
    ) in result.output


def test_a_run_is_not_resumed_on_a_folder_with_a_new_class(photos: Path, tmp_path: Path) -> None:
    dataset = load_dataset(f"folder:{photos}", Path())
    run = untrained(tmp_path / "run", recipe(dataset.info, "default"), dataset)
    write_labels(photos, ("no", "perhaps", "yes"))
    result = CliRunner().invoke(train, [f"folder:{photos}", "--output", str(run.path), "--resume", "--device", "cpu"])
    assert result.exit_code == 1
    assert "the classes of its factor 'hat' are 'no', 'perhaps', 'yes', those of the run 'no', 'yes'" in result.output


def test_a_run_finds_its_folder_at_a_new_place(photos: Path, tmp_path: Path) -> None:
    dataset = load_dataset(f"folder:{photos}", Path())
    run = untrained(tmp_path / "run", recipe(dataset.info, "default"), dataset)
    moved = photos.rename(tmp_path / "moved")
    lost = CliRunner().invoke(evaluate, [str(run.path)])
    assert lost.exit_code == 1
    assert "does not exist; if the folder has moved, pass its new place: folder:PATH as --dataset" in lost.output
    found = CliRunner().invoke(evaluate, [str(run.path), "--dataset", f"folder:{moved}"])
    assert found.exit_code == 0, found.output
    assert "warning: folder" not in found.stderr
    write_labels(moved, ("yes", "no"))
    other = CliRunner().invoke(evaluate, [str(run.path), "--dataset", f"folder:{moved}"])
    assert (
        f"warning: folder:{moved} differs from the data on which {run.path} was trained: 'labels.csv'" in other.stderr
    )
    resumed = CliRunner().invoke(train, [f"folder:{moved}", "--resume", "--output", str(run.path), "--device", "cpu"])
    assert resumed.exit_code == 1
    assert (
        f"cannot resume: folder:{moved} is not the data that {run.path} was started with: 'labels.csv'"
        in resumed.output
    )


@pytest.mark.parametrize("change", ["an added image", "a corrected label"])
def test_a_run_is_not_resumed_with_other_files(change: str, photos: Path, tmp_path: Path) -> None:
    """Of a corrected label, the same images would be labelled; an added image shifts the places of others."""
    dataset = load_dataset(f"folder:{photos}", Path())
    run = untrained(tmp_path / "run", recipe(dataset.info, "default"), dataset).path
    before = (run / "checkpoint.pt").read_bytes()
    if change == "an added image":
        Image.new("L", (32, 32)).save(photos / "more.png")
        difference = "'24 images' is missing; '25 images' is new"
    else:
        write_labels(photos, ["no", "yes"] * 11 + ["no", "no"])
        difference = "'labels.csv' is the file with SHA-256"
    resumed = CliRunner().invoke(train, ["--resume", str(run)])
    assert resumed.exit_code == 1
    assert f"cannot resume: folder:{photos} is not the data that {run} was started with: {difference}" in resumed.output
    assert "restore these files, or train a new run with another --output" in resumed.output
    assert (run / "checkpoint.pt").read_bytes() == before


def test_a_run_reads_its_folder_with_its_own_fit(photos: Path, tmp_path: Path) -> None:
    """Also at a new place; and it is not resumed with another one."""
    for path in photos.glob("*.png"):
        Image.new("L", (32, 16), 200).save(path)
    dataset = load_dataset(f"folder:{photos}", Path(), "pad")
    config = dataclasses.replace(recipe(dataset.info, "default"), fit="pad", precision="32-true")
    run = untrained(tmp_path / "run", config, dataset)
    assert run.load_config().fit == "pad"
    moved = photos.rename(tmp_path / "moved")
    images = load_run_dataset(run, Path(), f"folder:{moved}").test.images
    assert images[torch.tensor([0])][0, :, 0, 0].tolist() == [0] * 8 + [200] * 16 + [0] * 8
    arguments = [f"folder:{moved}", "--fit", "crop", "--resume", "--output", str(run.path), "--device", "cpu"]
    resumed = CliRunner().invoke(train, arguments)
    assert resumed.exit_code == 1
    assert "cannot resume: the run was started with fit 'pad'; omit these options" in resumed.output


def test_a_folder_whose_files_have_changed_is_evaluated_with_a_warning(photos: Path, tmp_path: Path) -> None:
    dataset = load_dataset(f"folder:{photos}", Path())
    run = untrained(tmp_path / "run", recipe(dataset.info, "default"), dataset)
    assert "warning: folder" not in CliRunner().invoke(evaluate, [str(run.path)]).stderr
    write_labels(photos, ("yes", "no"))
    Image.new("L", (32, 32)).save(photos / "more.png")
    result = CliRunner().invoke(evaluate, [str(run.path), "--json"])
    assert result.exit_code == 0, result.output
    now, then = load_dataset(f"folder:{photos}", Path()).source["labels.csv"][:12], dataset.source["labels.csv"][:12]
    assert (
        f"warning: folder:{photos} has changed since {run.path} was trained: "
        f"'labels.csv' is the file with SHA-256 {now}, and was the file with SHA-256 {then}; "
        "'24 images' is missing; '25 images' is new"
    ) in result.stderr
    assert json.loads(result.stdout)["data"]["labels.csv"].startswith(now)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (16, 16, 3)}, "its images are 16x16x3, those of the run 16x16x1"),
        ({"factors": (CORNER,)}, "its factors are 'corner', those of the run 'corner', 'shade'"),
        ({"factors": (SHADE, CORNER)}, "its factors are 'shade', 'corner', those of the run 'corner', 'shade'"),
        ({"factors": ()}, "its factors are none, those of the run 'corner', 'shade'"),
        (
            {"factors": (CORNER, dataclasses.replace(SHADE, classes=("bright", "dim")))},
            "the classes of its factor 'shade' are 'bright', 'dim', those of the run 'dim', 'bright'",
        ),
    ],
)
def test_every_mismatch_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    dataset = toy_dataset()
    run = untrained(tmp_path, tiny_config(), dataset)
    # mypy cannot check the keyword arguments of a dictionary.
    changed = dataclasses.replace(dataset, info=dataclasses.replace(TOY_INFO, **changes))  # type: ignore[arg-type]  # by name
    with pytest.raises(
        DataError, match=re.escape(f"toys does not match the data that {tmp_path} was trained on: {message}; restore")
    ):
        check_run_dataset(run, changed)


def test_a_baseline_matches_any_labels_of_images_of_its_size(tmp_path: Path) -> None:
    dataset = toy_dataset()
    model = dataclasses.replace(TOY_MODEL, factors=())
    run = untrained(tmp_path, tiny_config(method="vae", labels=0, model=model), dataset)
    check_run_dataset(run, dataset)
    changed = dataclasses.replace(dataset, info=dataclasses.replace(TOY_INFO, image_size=(20, 16, 1)))
    with pytest.raises(DataError, match="its images are 20x16x1, those of the run 16x16x1; restore"):
        check_run_dataset(run, changed)


def test_an_original_instead_of_drawn_images_gives_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = toy_dataset()
    drawn = dataclasses.replace(dataset, source={"toys": "drawn; the original would be data/toys"})
    run = untrained(tmp_path, tiny_config(), drawn)
    # Another --data is the same data.
    check_run_dataset(run, dataclasses.replace(drawn, source={"toys": "drawn; the original would be elsewhere/toys"}))
    assert capsys.readouterr().err == ""
    check_run_dataset(run, dataclasses.replace(drawn, source={"toys": 64 * "a"}))
    assert "'toys' is the file with SHA-256 aaaaaaaaaaaa, and was drawn" in capsys.readouterr().err


def test_a_run_without_provenance_is_damaged(tmp_path: Path) -> None:
    run = untrained(tmp_path, tiny_config(), toy_dataset())
    run.provenance_file.write_text("{")
    with pytest.raises(RunError, match=r"provenance\.json cannot be read: .*; restore the file, or train the run"):
        check_run_dataset(run, toy_dataset())
    run.provenance_file.unlink()
    with pytest.raises(RunError, match=r"provenance\.json cannot be read: .*No such file"):
        check_run_dataset(run, toy_dataset())


def test_labels_that_a_model_contradicts_are_reported_while_the_folder_is_unchanged(
    photos: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(f"folder:{photos}", Path())
    run = untrained(tmp_path / "run", recipe(dataset.info, "default"), dataset)
    model = PartedVAE(run.load_config().model)
    (factor,) = model.class_factors()
    with torch.no_grad():
        factor.logits.weight.zero_()
        factor.logits.bias.copy_(torch.tensor([5.0, 0.0]))
    run.save_checkpoint({"final_model": model.state_dict()})
    yes = int((dataset.train.labels[first_labelled(dataset.train, run.load_config().labels)] == 1).sum())
    text = f"some classes are taken for others: hat 'yes', mostly for 'no' ({yes} of {yes})."
    assert text in CliRunner().invoke(evaluate, [str(run.path)]).output
    # Other images may have the indices of those that had labels.
    write_labels(photos, ("yes", "no"))
    changed = CliRunner().invoke(evaluate, [str(run.path)]).output
    assert "has changed since" in changed
    assert "most labelled training images" not in changed


def test_of_many_labelled_images_an_even_part_is_compared(tmp_path: Path) -> None:
    dataset = toy_dataset()
    many = dataclasses.replace(dataset, train=dataset.train.take(torch.arange(2 * MOST_LABELLED + 1) % 40))
    run = untrained(tmp_path / "run", tiny_config(labels=2 * MOST_LABELLED + 1), many)
    images = labelled_images(run, many)
    assert images is not None
    assert torch.equal(images.labels, many.train.labels[::3])
    none = untrained(tmp_path / "none", tiny_config(labels=0), dataset)
    assert labelled_images(none, dataset) is None
