"""Runs of the command on a part of MNIST: the files that they write, how they stop, and how they are resumed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from partedvae.training.cli.train import train as train_command
from partedvae.training.config.overrides import apply_overrides
from partedvae.training.data.dataset import ImageDataset, first_labelled
from partedvae.training.distributed import SINGLE_PROCESS
from partedvae.training.engine import loop
from partedvae.training.engine.device import prepare
from partedvae.training.engine.run import classes_without_labels
from partedvae.training.engine.trainer import Trainer
from partedvae.training.runs.directory import RunDirectory, RunError
from tests.processes import PATIENCE, wait_until
from tests.training.toys import tiny_config, toy_dataset

pytestmark = pytest.mark.slow

SMALL_NETWORKS = (
    "--set",
    "model.encoder_channels=8,8,8",
    "--set",
    "model.decoder_channels=8,8,8",
    "--set",
    "model.hidden_dim=32",
)
SMALL = (
    "mnist",
    *SMALL_NETWORKS,
    "--epochs",
    "3",
    "--labels",
    "64",
    "--set",
    "train_images=640",
    "--set",
    "supervision.warm_start_steps=5",
    "--no-measure",
)
"""A run of 15 steps with small networks, without the measures of a minute."""
ONE_THREAD = ("--threads", "1")
"""Sums are rounded differently with another number of threads."""


def command(*arguments: str, data_dir: Path) -> list[str]:
    return [sys.executable, "-m", "partedvae", "train", *arguments, "--data", str(data_dir), "--device", "cpu"]


def train(*arguments: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(
        command(*arguments, data_dir=data_dir), capture_output=True, text=True, check=False, env=environment
    )


def train_here(*arguments: str, data_dir: Path) -> Result:
    """Train within this process, which spares the imports, where no signal, limit or number of threads matters."""
    return CliRunner().invoke(train_command, [*arguments, "--data", str(data_dir), "--device", "cpu"])


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    state = RunDirectory(run).load_checkpoint(torch.device("cpu"))
    weights: dict[str, torch.Tensor] = state["final_model"]
    return weights


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, mnist: ImageDataset, data_dir: Path) -> Path:
    """Return a small run that was not interrupted."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    done = train(*SMALL, *ONE_THREAD, "--output", str(path), data_dir=data_dir)
    assert done.returncode == 0, done.stderr
    assert "threads: 1 (--threads)" in done.stderr
    assert f"next: partedvae export {path} models/mnist" in done.stdout
    assert "few labels" not in done.stdout
    return path


def test_a_run_directory_records_configuration_provenance_and_metrics(whole_run: Path) -> None:
    summary = json.loads((whole_run / "summary.json").read_text())
    assert (summary["dataset"], summary["recipe"], summary["seed"], summary["labels"]) == ("mnist", "default", 0, 64)
    last = json.loads((whole_run / "metrics.jsonl").read_text().splitlines()[-1])
    assert summary["accuracy"]["digit"] == last["test/accuracy/digit"]
    assert summary["accuracy_text"] == {"digit": f"{summary['accuracy']['digit']:.2%}"}
    assert "measures" not in summary
    assert json.loads((whole_run / "config.json").read_text())["train_images"] == 640
    provenance = json.loads((whole_run / "provenance.json").read_text())
    assert provenance["labelled_images"] == list(range(64))
    assert provenance["label_counts"] == {"digit": 64}
    assert provenance["data"]["train-images-idx3-ubyte"].startswith("ba891046")
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["machine"]["threads"] == 1
    assert provenance["machine"]["devices"] == ["cpu"]
    assert provenance["command"][:2] == ["__main__.py", "train"]
    rows = [json.loads(line) for line in (whole_run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["step"] for row in rows] == [5, 10, 15]
    assert len(list(whole_run.glob("events.out.tfevents.*"))) == 1
    assert not list(whole_run.glob(".*.partial"))


def test_a_run_killed_with_sigkill_and_resumed_ends_with_the_same_weights(
    whole_run: Path, tmp_path: Path, data_dir: Path
) -> None:
    path = tmp_path / "killed"
    process = subprocess.Popen(
        command(*SMALL, *ONE_THREAD, "--output", str(path), data_dir=data_dir),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    with process:
        wait_until((path / "checkpoint.pt").exists)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (path / "summary.json").exists()
    resumed = train(*SMALL, "--output", str(path), "--resume", data_dir=data_dir)
    assert resumed.returncode == 0, resumed.stderr
    assert "threads: 1 (as the run began)" in resumed.stderr
    expected, actual = final_weights(whole_run), final_weights(path)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    rows = [(path / "metrics.jsonl").read_text(), (whole_run / "metrics.jsonl").read_text()]
    assert rows[0] == rows[1]


def test_a_run_stopped_by_a_signal_saves_and_resumes_from_the_same_step(
    whole_run: Path, tmp_path: Path, data_dir: Path
) -> None:
    """SIGTERM during training: exit code 130, and the checkpoint has the current step."""
    path = tmp_path / "stopped"
    process = subprocess.Popen(
        command(*SMALL, *ONE_THREAD, "--output", str(path), data_dir=data_dir),
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        wait_until((path / "checkpoint.pt").exists)
        process.terminate()
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "continue with 'partedvae train --resume " in errors
    assert "Traceback" not in errors
    step = RunDirectory(path).load_checkpoint(torch.device("cpu"))["trainer"]["step"]
    assert 5 <= step < 15
    resumed = train_here(*SMALL, "--output", str(path), "--resume", data_dir=data_dir)
    assert resumed.exit_code == 0, resumed.stderr
    expected, actual = final_weights(whole_run), final_weights(path)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Write 40 labelled images, dark and light ones."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = ["file,shade"]
    for k in range(40):
        pixels = np.random.default_rng(k).integers(0, 120, (32, 32)) + 120 * (k % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k}.png")
        rows.append(f"{k}.png,{('dark', 'light')[k % 2]}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_run_whose_epochs_have_one_step_stops_after_it(
    tmp_path: Path, pictures: Path, number: signal.Signals
) -> None:
    path = tmp_path / "run"
    settings = (*SMALL_NETWORKS, "--set", "supervision.warm_start_steps=5", "--precision", "32-true")
    arguments = (f"folder:{pictures}", "--epochs", "100000", *settings, "--output", str(path))
    with subprocess.Popen(
        command(*arguments, *ONE_THREAD, data_dir=tmp_path), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until((path / "checkpoint.pt").exists)
        process.send_signal(number)
        errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, errors
    assert "continue with 'partedvae train --resume " in errors


SIGNAL_IN = """
import os, signal, sys
from partedvae.cli.main import main
from partedvae.training.engine import loop
work = loop.{function}
def interrupted(*arguments):
    global work
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(10**7):  # the signal arrives between two of these
        pass
    print("not interrupted", file=sys.stderr)
    return work(*arguments)
loop.{function} = interrupted
main(prog_name="partedvae")
"""
"""The `partedvae` command, which gets SIGTERM when it begins to evaluate, or to measure."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("function", ["measure", "evaluate"])
def test_a_signal_interrupts_evaluation_which_is_repeated_when_the_run_is_resumed(
    whole_run: Path, tmp_path: Path, data_dir: Path, function: str
) -> None:
    path = tmp_path / "run"
    arguments = command(*SMALL, *ONE_THREAD, "--output", str(path), "--measure", data_dir=data_dir)[3:]
    program = [sys.executable, "-c", SIGNAL_IN.format(function=function)]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "not interrupted" not in done.stderr
    state = RunDirectory(path).load_checkpoint(torch.device("cpu"))
    ended = {"evaluate": (0, 5), "measure": (3, 15)}[function]
    assert (state["epoch"], state["trainer"]["step"]) == ended
    assert not (path / "summary.json").exists()
    resumed = train(*SMALL, *ONE_THREAD, "--output", str(path), "--resume", data_dir=data_dir)
    assert resumed.returncode == 0, resumed.stderr
    expected, actual = final_weights(whole_run), final_weights(path)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert (path / "metrics.jsonl").read_text() == (whole_run / "metrics.jsonl").read_text()


@pytest.mark.exhaustive
def test_a_full_disk_ends_training_with_the_file_and_the_remedy(
    tmp_path: Path, data_dir: Path, mnist: ImageDataset
) -> None:
    """100 KB hold the configuration and the metrics, but no checkpoint."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    program = [sys.executable, "-c", limit + "from partedvae.cli.main import main; main(prog_name='partedvae')"]
    path = tmp_path / "run"
    arguments = command(*SMALL, "--output", str(path), data_dir=data_dir)[3:]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = f"Error: {path}/checkpoint.pt: File too large; nothing was written; free space there, or write elsewhere"
    assert done.stderr.splitlines()[-1] == message
    assert [json.loads(line)["epoch"] for line in (path / "metrics.jsonl").read_text().splitlines()] == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "already contains a run; continue it with --resume, or choose another --output"),
        (("--resume",), "has ended; to train longer, use more --epochs and a new --output"),
        (
            ("--resume", "--seed", "1"),
            "cannot resume: the run was started with seed 0; omit these options, or use a new --output",
        ),
    ],
)
def test_an_existing_run_is_never_overwritten(
    whole_run: Path, data_dir: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = (whole_run / "checkpoint.pt").read_bytes()
    done = train_here(*SMALL, "--output", str(whole_run), *arguments, data_dir=data_dir)
    assert done.exit_code == 1
    assert message in done.stderr
    assert isinstance(done.exception, SystemExit)
    assert (whole_run / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("resume", [False, True])
def test_two_processes_cannot_train_the_same_run(tmp_path: Path, data_dir: Path, whole_run: Path, resume: bool) -> None:
    """The error names the process that holds the run; a run that is refused leaves no folder."""
    path = tmp_path / "run"
    if resume:
        shutil.copytree(whole_run, path)
        (path / "summary.json").unlink()
    arguments = (*SMALL, "--output", str(path), *(["--resume"] if resume else ["--epochs", "1"]))
    with RunDirectory(path).locked():
        done = train_here(*arguments, data_dir=data_dir)
        assert done.exit_code == 1
        message = (
            rf"Error: process {os.getpid()} on .*, since 20.*, is writing {path}; wait until it has ended, or stop it"
        )
        assert re.fullmatch(message, done.stderr.splitlines()[-1])
    assert path.exists() == resume
    again = train_here(*arguments, data_dir=data_dir)
    assert again.exit_code == 0, again.stderr
    assert (path / "summary.json").is_file()
    assert not (path / ".lock").exists()


def test_training_without_labels_works(tmp_path: Path, data_dir: Path, mnist: ImageDataset) -> None:
    done = train_here(*SMALL, "--epochs", "1", "--labels", "0", "--output", str(tmp_path / "run"), data_dir=data_dir)
    assert done.exit_code == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["labels"], summary["accuracy"]) == (0, {})
    assert "few labels" not in done.stdout


def test_classes_without_labels_are_named() -> None:
    """A factor without any label is another matter: its classes are clusters."""
    labels = torch.tensor([[0, -1], [2, -1], [-1, -1]])
    config = tiny_config(labels=3)
    (warning,) = classes_without_labels(config, labels)
    assert warning == (
        "none of the 3 labelled images is of corner 'top right', 'bottom right'; choose others with --labelled "
        "balanced or stratified, or more with --labels"
    )
    assert list(classes_without_labels(config, torch.tensor([[c, c % 2] for c in range(4)]))) == []
    assert list(classes_without_labels(config, labels[:0])) == []


def test_resuming_a_complete_run_without_summary_writes_the_summary(
    tmp_path: Path, data_dir: Path, whole_run: Path
) -> None:
    """Killed after the last checkpoint: training is complete, and only the summary is missing."""
    path = tmp_path / "run"
    shutil.copytree(whole_run, path)
    before = json.loads((path / "summary.json").read_text())
    (path / "summary.json").unlink()
    done = train_here(*SMALL, "--output", str(path), "--resume", data_dir=data_dir)
    assert done.exit_code == 0, done.stderr
    after = json.loads((path / "summary.json").read_text())
    assert (after["accuracy"], after["epochs"]) == (before["accuracy"], before["epochs"])


def test_a_run_that_diverges_stops_and_keeps_its_checkpoint(
    tmp_path: Path, data_dir: Path, mnist: ImageDataset
) -> None:
    done = train_here(
        *SMALL, "--set", "optimiser.learning_rate=1e30", "--output", str(tmp_path / "run"), data_dir=data_dir
    )
    assert done.exit_code == 1
    assert "training diverged in epoch 1" in done.stderr
    assert isinstance(done.exception, SystemExit)
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.exhaustive
def test_a_collapsed_classifier_gives_a_warning_at_the_end_of_the_epoch(
    tmp_path: Path, data_dir: Path, mnist: ImageDataset
) -> None:
    """A large entropy weight without labels assigns all images to one class."""
    settings = ("--set", "objective.gamma_h=100000", "--set", "objective.gamma_c=0", "--epochs", "1", "--labels", "0")
    done = train_here(*SMALL, *settings, "--output", str(tmp_path / "run"), data_dir=data_dir)
    assert done.exit_code == 0, done.stderr
    assert "warning: q(c) has collapsed: I(x; c) of digit is" in done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"]


def test_a_classifier_that_contradicts_its_labels_gives_a_warning_in_output_and_summary(
    tmp_path: Path, data_dir: Path, mnist: ImageDataset
) -> None:
    """Without any training of the classifier, it takes nearly all digits for one or two."""
    run = tmp_path / "run"
    settings = ("--epochs", "1", "--set", "optimiser.supervised_learning_rate=1e-12", "--set", "objective.gamma_h=0")
    few = ("--labels", "49", "--set", "supervision.every=1")
    done = train_here(*SMALL, *settings, *few, "--output", str(run), data_dir=data_dir)
    assert done.exit_code == 0, done.stderr
    assert (
        "few labels: those of groups may help. partedvae train mnist --recipe features --output runs/mnist-features-0 "
        "trains their features without labels; then train again with --features runs/mnist-features-0"
    ) in done.stdout
    (warning,) = (text for text in json.loads((run / "summary.json").read_text())["warnings"] if "labelled" in text)
    assert warning.startswith("most labelled training images of some classes are taken for others: digit '")
    assert done.stderr.count(f"warning: {warning}") == 1


def test_a_run_that_diverged_and_is_stopped_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal within the epoch whose losses are NaN does not replace the weights of the epoch before."""
    config, dataset, run = tiny_config(epochs=2, batch_size=4), toy_dataset(), RunDirectory(tmp_path / "run")
    labelled = first_labelled(dataset.train, config.labels)
    prepare(0)
    trainer = Trainer(config, dataset.train, labelled, SINGLE_PROCESS)
    run.start(config, dataset, labelled, "cpu")
    step = trainer.train_step

    def diverging() -> dict[str, torch.Tensor]:
        losses = step()
        if trainer.step == trainer.steps_per_epoch + 3:
            trainer.epoch_sums[0] = float("nan")
            signal.raise_signal(signal.SIGINT)
        return losses

    monkeypatch.setattr(trainer, "train_step", diverging)
    with pytest.raises(RunError, match=r"training diverged in epoch 2 \(not finite: loss\); lower .*/run keeps its"):
        loop.TrainingLoop(run, trainer, dataset, 0.0).train()
    assert run.load_checkpoint(torch.device("cpu"))["trainer"]["step"] == trainer.steps_per_epoch


def test_the_progress_bar_shows_the_latest_supervised_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the steps 0, 20, 40 and 60, at which the bar is updated, 40 and 60 have no supervised step."""
    shown: list[dict[str, str]] = []

    class Bar:
        def set_postfix(self, losses: dict[str, str], *, refresh: bool) -> None:
            shown.append(losses)

        def update(self, images: int) -> None:
            """Do nothing."""

    monkeypatch.setattr(loop, "progress_bar", lambda *_, **__: nullcontext(Bar()))
    config = tiny_config(epochs=1, batch_size=4)
    config = apply_overrides(config, ["supervision.every=3"])
    dataset, run = toy_dataset(), RunDirectory(tmp_path / "run")
    labelled = first_labelled(dataset.train, config.labels)
    prepare(0)
    trainer = Trainer(config, dataset.train, labelled, SINGLE_PROCESS)
    run.start(config, dataset, labelled, "cpu")
    loop.TrainingLoop(run, trainer, dataset, 0.0).train()
    assert len({losses["supervised"] for losses in shown}) == len(shown) == 4
