"""A model for features where there is none: a run of the same images without labels, trained and exported once."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from partedvae.serving.bundle_files import versions_of
from partedvae.serving.errors import ServingError
from partedvae.serving.suggest.features import FEATURES_RECIPE

CONFIG, SUMMARY = "config.json", "summary.json"
"""Files of a run: the first one that it writes, and the last."""
RUN, MODELS, NAME = "features", "models", "features"
"""Names in the folder: of the run, of the folder of models, and of the model."""
GRACE_SECONDS = 60.0
"""Time for a command that is interrupted to save its checkpoint."""


def unsupervised_model(
    dataset: str, folder: Path, data_dir: Path, epochs: int | None, say: Callable[[str], None]
) -> Path:
    """Return the folder of a model of a data set that is trained without labels: now, or by an earlier call.

    An interrupted run is continued.

    Args:
        dataset: name of the data set, as `partedvae train` has it.
        folder: where the run and the model are kept.
        data_dir: folder of the data sets.
        epochs: passes over the images; None for those of the recipe.
        say: receives lines on what is done, and where.

    Raises:
        ServingError: the packages for training are not installed, training failed, or the folder is that of another
            data set.
        OSError: the folder cannot be read.
    """
    run, model = folder / RUN, folder / MODELS / NAME
    _check_dataset(run / CONFIG, dataset)
    if versions_of(model):
        say(f"using the model {model}, which was trained without labels on {dataset} before")
        return model
    if find_spec("torch") is None:
        raise ServingError(
            f"without a model, one is trained on {dataset}, which needs torch, which is not installed; install it "
            "with: pip install 'partedvae[train]', or pass --model, --server or --features"
        )
    if (run / SUMMARY).is_file():
        say(f"using the run {run}, which was trained without labels before")
    else:
        say(f"training without labels on {dataset}; the run is kept in {run}, the model in {model}, for the next time")
        resumed = (run / CONFIG).is_file()
        start: list[object] = [dataset, "--recipe", FEATURES_RECIPE, "--output", run]
        start += ["--epochs", epochs] if epochs else []
        options = ["--resume", run] if resumed else start
        _run(["train", *options, "--no-measure", "--data", data_dir], say)
    _run(["export", run, model, "--data", data_dir], say)
    return model


def features_run(folder: Path) -> Path | None:
    """Return the run that `unsupervised_model` has trained to its end in a folder, None where there is none."""
    run = folder / RUN
    return run if (run / SUMMARY).is_file() else None


def _check_dataset(config: Path, dataset: str) -> None:
    if config.is_file():
        try:
            trained = json.loads(config.read_text(encoding="utf-8")).get("dataset")
        except (ValueError, AttributeError) as error:
            raise ServingError(
                f"{config} is damaged: {error}; delete {config.parent}, or pass another folder as --cache"
            ) from error
        if trained != dataset:
            raise ServingError(
                f"{config.parent} is a run of {trained}, not of {dataset}; pass another folder as --cache"
            )


def _run(arguments: Sequence[object], say: Callable[[str], None]) -> None:
    """Run a command of this package to its end; what it prints goes to standard error.

    Raises:
        ServingError: it failed.
    """
    words = [str(argument) for argument in arguments]
    say(f"$ partedvae {shlex.join(words)}")
    with subprocess.Popen([sys.executable, "-m", "partedvae", *words], stdout=2) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    if code:
        raise ServingError(f"'partedvae {words[0]}' failed with exit code {code}; see above")
