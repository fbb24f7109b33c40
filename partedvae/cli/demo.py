"""The command `demo`: all steps on MNIST, from training to features from a server, each as a command of its own.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from partedvae.common.atomic_write import write_json
from partedvae.common.click_errors import click_errors
from partedvae.common.click_paths import LocalPath
from partedvae.errors import PartedVAEError

if TYPE_CHECKING:
    from partedvae.model_results import ModelDetails

MARKER = ".partedvae-demo"
"""A file in the output folder of a demo: only a folder with this file is replaced by the next demo."""
TEST_IMAGES = Path("data/mnist/t10k-images-idx3-ubyte")
INCLUDE = "class,u,z,negative_elbo,unfamiliar,error"
"""Columns of the features: all that the map of `partedvae explore` shows."""
READY = "serving on "
"""Start of the line in which the server prints its address."""
GRACE_SECONDS = 30.0


@click.command()
@click.option(
    "--output",
    type=LocalPath(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for all results.",
)
@click_errors(PartedVAEError, OSError)
def demo(output: Path) -> None:
    """Run all steps on MNIST: train, export, serve, extract.

    Takes about 10 minutes on one core with bfloat16, about 20 without. The folder of an earlier demo is replaced.
    """
    # Imported first, so that a missing package is reported before minutes of training.
    import pyarrow.parquet  # noqa: F401
    from PIL import Image  # noqa: F401

    _create_output(output)
    run, models = output / "run", output / "models"
    predictions, features = output / "predictions.npz", output / "features.parquet"

    _step("train", "mnist", "--output", run)
    evaluation = json.loads(_step("evaluate", run, "--json", "--predictions", predictions, capture=True))
    _step("export", run, models / "mnist")
    test_images = TEST_IMAGES if TEST_IMAGES.exists() else TEST_IMAGES.with_name(f"{TEST_IMAGES.name}.gz")
    with _server(models) as address:
        started = time.monotonic()
        _step("extract", test_images, "--output", features, "--server", address, "--include", INCLUDE)
        seconds = time.monotonic() - started
        grid = ("--each-class", "--count", 8, "--seed", 0, "--output", output / "generated.png")
        _step("generate", *grid, "--server", address)
        model = _model_of(address)

    trained = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    matching = _matching(features, predictions, model)
    summary = {
        "accuracy": evaluation["factors"]["digit"]["accuracy"],
        "images": evaluation["images"],
        "served_matches_offline": matching == evaluation["images"],
        "extract_seconds": round(seconds, 2),
        "extract_images_per_second": round(evaluation["images"] / seconds),
        "model": model.name,
        "version": model.version,
    } | {key: trained[key] for key in ("labels", "train_seconds", "epochs", "seed", "recipe")}
    write_json(output / "summary.json", summary)
    _report(output, summary, matching)


def _create_output(output: Path) -> None:
    """Create the folder; replace that of an earlier demo, and no other."""
    if output.exists():
        if any(output.iterdir()) and not (output / MARKER).exists():
            raise click.ClickException(
                f"{output} exists and was not made by the demo; choose another folder with --output"
            )
        shutil.rmtree(output)
    output.mkdir(parents=True)
    (output / MARKER).touch()


def _command(*arguments: object) -> list[str]:
    """Return the command line of a step, and print it as a user types it."""
    words = [str(argument) for argument in arguments]
    click.secho(f"\n$ partedvae {shlex.join(words)}", bold=True)
    return [sys.executable, "-m", "partedvae", *words]


def _step(*arguments: object, capture: bool = False) -> str:
    """Run a step to its end.

    Args:
        arguments: of `partedvae`.
        capture: return its standard output instead of showing it.
    """
    done = subprocess.run(_command(*arguments), stdout=subprocess.PIPE if capture else None, text=True, check=False)
    if done.returncode:
        _fail(str(arguments[0]), done.returncode)
    return done.stdout or ""


def _fail(step: str, code: int) -> NoReturn:
    """Exit with the exit code of the step that failed."""
    click.echo(f"Error: the demo stopped: 'partedvae {step}' failed with exit code {code}; see above", err=True)
    # The code of a step that was ended by a signal is negative; shells report 128 + signal.
    raise click.exceptions.Exit(code if code > 0 else 128 - code)


@contextmanager
def _server(models: Path) -> Iterator[str]:
    """Serve the models on a free port for the duration of the block; yields the address."""
    command = _command("serve", models, "--address", "127.0.0.1:0", "--log-level", "warning")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith(READY):
                _fail("serve", process.wait(GRACE_SECONDS))
            click.echo(line, nl=False)
            yield line.removeprefix(READY).strip()
        finally:
            process.terminate()
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _model_of(address: str) -> ModelDetails:
    from partedvae.client import Client

    with Client(address) as client:
        return client.model_info()


def _matching(features: Path, predictions: Path, model: ModelDetails) -> int:
    """Return the number of images whose class from the server equals that of the evaluation with PyTorch."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(features)
    same = np.ones(len(table), dtype=bool)
    with np.load(predictions) as offline:
        for factor in model.manifest.factors:
            served = np.array(table[factor.name].to_pylist(), dtype=object)
            same &= served == np.array(factor.class_names, dtype=object)[offline[factor.name]]
    return int(same.sum())


def _report(output: Path, summary: dict[str, Any], matching: int) -> None:
    """Print the figures, the files and the next commands."""
    click.echo(
        f"""
Test accuracy {summary["accuracy"]:.2%} on {summary["images"]:,} images from {summary["labels"]} labels
({summary["train_seconds"]:.0f} s of training); {matching:,} served classes equal those of PyTorch.

{output}/summary.json       these figures
{output}/features.parquet   class-related features of the test images, from the server
{output}/generated.png      new digits, one row per class, one style per column
{output}/models             the exported model

Next:
  partedvae serve {output}/models
  partedvae generate --class 7 --output sevens.png          # in another terminal, while the server runs
  partedvae extract FOLDER_OF_IMAGES --output features.parquet --model {output}/models/mnist"""
    )
    if not summary["served_matches_offline"]:
        raise click.ClickException(
            f"only {matching:,} of {summary['images']:,} served classes equal those of PyTorch; "
            f"compare {output}/features.parquet with {output}/predictions.npz"
        )
