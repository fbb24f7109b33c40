"""The command writes every figure that applies to a run, reproducibly, and reports errors clearly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from partedvae.training.cli.figures import figures
from partedvae.training.figures.registry import FIGURES

pytestmark = pytest.mark.slow

RunOf = Callable[[str], Path]
COMPARISONS = ["bc_factors", "bc_prior_density"]
OF_ONE_RUN = [name for name in FIGURES if name not in COMPARISONS]
APPLICABLE = {
    "toys": OF_ONE_RUN,
    "coloured": OF_ONE_RUN,
    "one-factor": [name for name in OF_ONE_RUN if name != "factors"],
    "unlabelled": OF_ONE_RUN,
    "half-labelled": OF_ONE_RUN,
    "vae": ["traversal_z", "reconstructions", "losses"],
    "classifier": ["losses"],
}


def draw(*arguments: object) -> Result:
    return CliRunner().invoke(figures, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive) if name in ("unlabelled", "half-labelled") else name
        for name in APPLICABLE
    ],
)
def test_every_figure_that_applies_to_a_run_is_drawn_as_a_readable_png(run_of: RunOf, name: str) -> None:
    path = run_of(name)
    result = draw(path)
    assert result.exit_code == 0, result.output
    expected = [path / "figures" / f"{figure}.png" for figure in APPLICABLE[name]]
    assert result.output.splitlines() == [str(file) for file in expected]
    assert sorted((path / "figures").iterdir()) == sorted(expected)
    for file in expected:
        with Image.open(file) as image:
            assert image.format == "PNG"
            pixels = np.asarray(image.convert("RGB"))
        height, width, _ = pixels.shape
        assert 900 <= width <= 1600, file
        assert 200 <= height <= 2000, file
        assert file.stat().st_size < 700_000
        assert (pixels[:2] == 255).all()
        assert pixels.std() > 10, f"{file} is nearly empty"


@pytest.mark.exhaustive
def test_the_same_seed_gives_the_same_files_alone_or_together_and_another_seed_others(
    run_of: RunOf, tmp_path: Path
) -> None:
    path = run_of("toys")
    assert draw(path, "--output", tmp_path / "all").exit_code == 0
    for name in OF_ONE_RUN:
        assert draw(path, "--output", tmp_path / "one", "--only", name).exit_code == 0
        assert (tmp_path / "all" / f"{name}.png").read_bytes() == (tmp_path / "one" / f"{name}.png").read_bytes(), name
    assert draw(path, "--output", tmp_path / "other", "--seed", 1).exit_code == 0
    for name in ("transfer", "prior_samples", "reconstructions"):
        assert (tmp_path / "all" / f"{name}.png").read_bytes() != (tmp_path / "other" / f"{name}.png").read_bytes()


@pytest.mark.parametrize("name", [pytest.param("toys", marks=pytest.mark.exhaustive), "coloured"])
def test_figures_of_two_runs_have_both_side_by_side(
    run_of: RunOf, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The left half is the run's, as when it is compared with itself; the right half is that of the other run."""
    run, other = run_of(name), run_of(f"{name}-without-bc")
    for figure in COMPARISONS:
        result = draw(run, "--without-bc", other, "--only", figure)
        assert result.output == f"{run / 'figures' / figure}.png\n"
        with Image.open(run / "figures" / f"{figure}.png") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        height, width, _ = pixels.shape
        assert 900 <= width <= 1600
        assert 200 <= height <= 2000
        # Below the title and the note.
        left, right = pixels[150:, : width // 2], pixels[150:, width - width // 2 :]
        assert left.std() > 10
        assert right.std() > 10
        assert (left != right).mean() > 0.05
    monkeypatch.setattr("partedvae.training.figures.registry._draw", lambda context, kind, path: path)
    everything = draw(run, "--without-bc", other, "--output", tmp_path / "all")
    assert [Path(line).stem for line in everything.output.splitlines()] == list(FIGURES)


@pytest.mark.parametrize(
    ("run", "other", "message"),
    [
        ("toys", "toys", "is a run of method 'partedvae' with objective.gamma_bc 30; pass a run that was trained with"),
        ("toys", "vae", "is a run of method 'vae' with objective.gamma_bc 30"),
        ("toys", "coloured-without-bc", "is a run of data set 'coloured', and "),
        ("coarse", "toys-without-bc", "has other factors, classes or dimensions of u than "),
    ],
)
def test_runs_that_cannot_be_compared_are_an_error(run_of: RunOf, run: str, other: str, message: str) -> None:
    path = run_of(run)
    result = draw(path, "--without-bc", run_of(other))
    assert result.exit_code == 1
    assert message in result.output
    assert not (path / "figures").exists()


def test_a_figure_of_two_runs_needs_the_other(run_of: RunOf) -> None:
    path = run_of("toys")
    result = draw(path, "--only", "bc_factors")
    assert result.exit_code == 1
    assert "it compares the run with one without the Bhattacharyya term; pass --without-bc RUN_DIR" in result.output


def test_only_draws_the_named_figures(run_of: RunOf) -> None:
    path = run_of("toys")
    assert draw(path, "--only", "losses", "--only", "transfer").exit_code == 0
    assert sorted(file.name for file in (path / "figures").iterdir()) == ["losses.png", "transfer.png"]


def test_losses_need_neither_model_nor_data(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_of("toys")
    (path / "checkpoint.pt").unlink()
    monkeypatch.undo()
    assert draw(path, "--only", "losses", "--data", path / "none").exit_code == 0


@pytest.mark.parametrize(
    ("run", "only", "message"),
    [
        ("toys", "transfr", "no figure is called 'transfr'; did you mean 'transfer'? (there are: traversal_z, "),
        (
            "one-factor",
            "factors",
            "it needs several factors or a u of one dimension, and this run has one factor with a u of 2 dimensions",
        ),
        ("vae", "transfer", "method 'vae' has no classes"),
        ("classifier", "embedding", "method 'classifier' trains no decoder and no latents"),
    ],
)
def test_a_figure_that_does_not_apply_is_an_error_and_nothing_is_written(
    run_of: RunOf, run: str, only: str, message: str
) -> None:
    path = run_of(run)
    result = draw(path, "--only", "losses", "--only", only)
    assert result.exit_code == 1
    assert message in result.output
    assert not (path / "figures").exists()


def test_a_run_without_an_epoch_has_no_losses(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_of("coloured")
    (path / "metrics.jsonl").unlink()
    monkeypatch.setattr("partedvae.training.figures.registry._draw", lambda context, kind, path: path)
    drawn = draw(path)
    assert drawn.exit_code == 0, drawn.output
    names = [Path(line).stem for line in drawn.output.splitlines()]
    assert names == [name for name in APPLICABLE["coloured"] if name != "losses"]
    result = draw(path, "--only", "losses")
    assert result.exit_code == 1
    assert f"--only losses does not apply to {path}: no epoch has ended yet" in result.output


def test_a_missing_run_or_checkpoint_is_an_error_with_a_remedy(run_of: RunOf, tmp_path: Path) -> None:
    result = draw(tmp_path / "none")
    assert result.exit_code == 1
    assert "is not a run directory: config.json is missing; train one with 'partedvae train'" in result.output
    path = run_of("toys")
    (path / "checkpoint.pt").unlink()
    result = draw(path)
    assert result.exit_code == 1
    assert "has no checkpoint yet" in result.output


def test_a_data_set_without_test_images_is_an_error(run_of: RunOf) -> None:
    result = draw(run_of("no-test"))
    assert result.exit_code == 1
    assert "no-test has no test images, which the figures show" in result.output


def test_an_output_that_cannot_be_created_is_an_error(run_of: RunOf, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = draw(run_of("toys"), "--output", tmp_path / "file" / "folder")
    assert result.exit_code == 1
    assert "Not a directory" in result.output


def test_a_run_of_a_data_set_that_is_unknown_is_an_error(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_of("toys")
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**values, "dataset": "mnits"}))
    monkeypatch.undo()
    result = draw(path)
    assert result.exit_code == 1
    assert "'mnits'; did you mean 'mnist'?" in result.output


def test_the_help_names_every_figure() -> None:
    text = draw("--help").output
    assert all(f"\n  {name} " in text for name in FIGURES)
