"""Invalid input of train, evaluate and describe: a clear message, exit code 1, nothing written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import partedvae.training.engine.device
import partedvae.training.reports.describe
import partedvae.training.runs.data
from partedvae.training.cli.describe import describe
from partedvae.training.cli.evaluate import evaluate
from partedvae.training.cli.figures import figures
from partedvae.training.cli.reproduce import reproduce
from partedvae.training.cli.train import train
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.data.registry import Entry
from partedvae.training.evaluation.metrics import probes
from tests.training.figures.runs import load, write_run
from tests.training.toys import TOY_INFO


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnits"], "no data set is called 'mnits'; did you mean 'mnist'? (there are: mnist"),
        (["mnist", "--recipe", "papr"], "no recipe for 'mnist' is called 'papr'; did you mean 'paper'?"),
        (
            ["mnist", "--set", "objective.gamma=1"],
            "--set has no key 'objective.gamma'; did you mean 'objective.gamma_",
        ),
        (["mnist", "--set", "epochs=x"], "--set epochs='x': expected an integer"),
        (["mnist", "--labels", "-1"], "labels is -1; it must be 0 or more"),
        (["mnist", "--labels", "60001"], "--labels 60001 is more than the 60000 labelled training images"),
        (["mnist", "--epochs", "0"], "epochs is 0; it must be at least 1"),
        (["mnist", "--device", "cuda"], "--device cuda: this PyTorch"),
        (["mnist", "--method", "vae", "--labels", "100"], "method 'vae' does not use labels; omit --labels"),
        (["mnist", "--method", "gan"], "no method is called 'gan'"),
        (["mnist", "--set", "train_images=70000"], "train_images is 70000; mnist has 60000 training images"),
        (["mnist", "--labelled", "frist"], "no selection of labelled images is called 'frist'; did you mean 'first'?"),
        (["mnist", "--seed", "99999999999999999999"], "it must be less than 2**62"),
        (
            ["mnist", "--fit", "pad"],
            "the images of 'mnist' have a fixed size; omit --fit pad, which is for folder:PATH",
        ),
        (["mnist", "--fit", "stretch"], "the images of 'mnist' have a fixed size; omit --fit stretch, which is for"),
        (["mnist", "--set", "fit=crop"], "the images of 'mnist' have a fixed size; omit --fit crop, which is for"),
        (["mnist", "--set", "fit=zoom"], "--set fit='zoom': expected one of stretch, pad, crop"),
        (["folder:"], "folder: lacks a path; write folder:PATH"),
        (["mnist", "--resume"], "is not a run directory: config.json is missing"),
    ],
)
def test_train_rejects_invalid_input_and_writes_nothing(
    tmp_path: Path, data_dir: Path, mnist: ImageDataset, arguments: list[str], message: str
) -> None:
    output = tmp_path / "run"
    result = CliRunner().invoke(train, [*arguments, "--output", str(output), "--data", str(data_dir)])
    assert result.exit_code == 1
    assert message in result.output
    assert not output.exists()


@pytest.mark.parametrize("command", [train, describe])
def test_an_unknown_fit_is_a_usage_error(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["folder:photos", "--fit", "zoom"])
    assert result.exit_code == 2
    assert "Invalid value for '--fit': 'zoom' is not one of 'stretch', 'pad', 'crop'" in result.output


@pytest.mark.parametrize("command", [train, evaluate, figures, reproduce])
def test_no_threads_are_an_error_of_every_command_that_computes(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["mnist", "--threads", "0"])
    assert result.exit_code == 2
    assert "Invalid value for '--threads': 0 is not in the range x>=1" in result.output


def test_bf16_on_a_processor_without_it_is_an_error(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partedvae.training.engine.device, "BF16_FLAGS", {"a_flag_that_no_processor_has"})
    output = tmp_path / "run"
    arguments = ["mnist", "--device", "cpu", "--precision", "bf16-mixed", "--output", str(output)]
    result = CliRunner().invoke(train, [*arguments, "--data", str(data_dir)])
    assert result.exit_code == 1
    assert "--precision bf16-mixed: this processor lacks bfloat16 instructions" in result.output
    assert not output.exists()


def test_evaluate_rejects_a_missing_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(evaluate, [str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "is not a run directory: config.json is missing; train one with 'partedvae train'" in result.output


def test_evaluate_rejects_a_missing_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(evaluate, [str(write_run(tmp_path / "run", "toys")), "--device", "cuda"])
    assert result.exit_code == 1
    assert "Error: --device cuda: this PyTorch" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "config.json cannot be read"), ('{"model": {}}', "config.json cannot be read")],
)
def test_evaluate_rejects_a_damaged_configuration(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    result = CliRunner().invoke(evaluate, [str(tmp_path)])
    assert result.exit_code == 1
    assert message in result.output


def test_describe_shows_the_default_recipe_and_rejects_an_unknown_one() -> None:
    output = CliRunner().invoke(describe, ["mnist"]).output
    assert "consistency weight" in output
    assert re.search("initial weights +PyTorch's\n", output)
    assert re.search(r"initial weights +He et al\.\n", CliRunner().invoke(describe, ["faces"]).output)
    result = CliRunner().invoke(describe, ["mnist", "--recipe", "best"])
    assert result.exit_code == 1
    assert "no recipe for 'mnist' is called 'best' (there are: default, paper, features)" in result.output
    result = CliRunner().invoke(describe, ["mnist", "--set", "labelled=balance"])
    assert result.exit_code == 1
    assert "no selection of labelled images is called 'balance'; did you mean 'balanced'?" in result.output


def test_predictions_that_cannot_be_written_are_an_error_after_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partedvae.training.runs.data, "load_dataset", load)
    monkeypatch.setattr(probes, "SMALL_ITERATIONS", 20)
    run = write_run(tmp_path / "run", "toys")
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "y.npz"
    result = CliRunner().invoke(evaluate, [str(run), "--predictions", str(place)])
    assert result.exit_code == 1
    assert "toys, recipe default" in result.output
    assert f"Error: --predictions {place} cannot be written: [Errno 17] File exists" in result.output
    assert "choose a file in a writable folder" in result.output
    assert CliRunner().invoke(evaluate, [str(run), "--predictions", str(tmp_path / "new" / "y.npz")]).exit_code == 0
    with np.load(tmp_path / "new" / "y.npz") as arrays:
        assert arrays["corner"].shape == arrays["shade"].shape == (64,)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["./photos/"], 1, "no data set is called './photos/'; did you mean 'folder:./photos/'?"),
        ([], 2, "Missing argument 'DATASET'; choose a name from 'partedvae data list', or folder:PATH"),
        (["--resume"], 2, "--resume needs the run: --resume RUN_DIR"),
        (["--resume", "runs/none"], 1, "runs/none is not a run directory: config.json is missing"),
        (["mnist", "--resume", "a", "--output", "b"], 2, "--resume a and --output b are two run directories"),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == code
    assert message in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs") / "mnist-default-0"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    result = CliRunner().invoke(train, [str(run)])
    assert result.exit_code == 2
    assert f"{run} is a run, not a data set; continue it with --resume {run}" in result.output


def test_set_help_lists_every_key_without_a_data_set() -> None:
    result = CliRunner().invoke(train, ["--set", "help"])
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert lines["objective.gamma_bc"] == "a number"
    assert lines["priors"] == "one of given, uniform, estimated"


def test_describe_shows_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", "toys")
    monkeypatch.setattr(
        partedvae.training.reports.describe,
        "entry",
        lambda _, labels: Entry(describe=lambda _: TOY_INFO, load=lambda path: load("toys", path)),
    )
    result = CliRunner().invoke(describe, [str(run)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(
        f"{run}: not finished; continue with 'partedvae train --resume {run}'\ntoys, recipe"
    )
    refused = CliRunner().invoke(describe, [str(run), "--fit", "pad"])
    assert refused.exit_code == 2
    assert "is a run, whose configuration is shown as it is; omit --fit" in refused.output
    refused = CliRunner().invoke(describe, [str(run), "--recipe", "paper"])
    assert refused.exit_code == 2
    assert "is a run, whose configuration is shown as it is; omit --recipe" in refused.output


def test_wrong_input_is_reported_before_modules_are_imported_that_take_seconds() -> None:
    """Nothing but PyTorch itself is waited for."""
    commands = [
        *("train mnits", "train mnist --labels -1", "describe mnits"),
        *("evaluate nowhere", "figures nowhere", "export nowhere models/new"),
    ]
    program = (
        "import sys; from click.testing import CliRunner; from partedvae.cli.main import main;"
        f"print(*[CliRunner().invoke(main, command.split()).exit_code for command in {commands}]);"
        "print(sorted({'torch._dynamo', 'lightning_fabric', 'sklearn', 'scipy.stats', 'onnx'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == "1 1 1 1 1 1\n[]\n"


def test_training_and_export_start_without_what_only_measures_and_figures_need() -> None:
    """These modules take about as long to import as PyTorch."""
    program = (
        "import sys, partedvae.training.engine.run, partedvae.export.exporter;"
        "print(sorted({'sklearn', 'scipy.stats', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"
