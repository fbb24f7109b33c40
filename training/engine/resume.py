"""Checks before a run is resumed: the same configuration and data, and not ended; and its precision."""

from __future__ import annotations

import dataclasses

from jaxtyping import Int
from torch import Tensor

from partedvae.common.flatten import flatten
from partedvae.training.config.train_config import Precision, TrainConfig
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.data.names import FOLDER
from partedvae.training.engine.device import choose_precision
from partedvae.training.runs.data import differences
from partedvae.training.runs.directory import RunDirectory, RunError


def require_resumable(
    run: RunDirectory, config: TrainConfig, dataset: ImageDataset, labelled: Int[Tensor, " labelled"]
) -> None:
    """Check that a run can be resumed.

    A folder of images may have moved: another folder is accepted if its files are those of the run.

    Args:
        run: the run directory.
        config: the requested configuration.
        dataset: the data set of that configuration.
        labelled: indices of the training images whose labels would be used.

    Raises:
        RunError: the run has another configuration, other data or labels, or it has ended.
    """
    stored_config = run.load_config()
    if config.dataset != stored_config.dataset and config.dataset.startswith(FOLDER):
        changed = differences(run, dataset)
        if changed:
            raise RunError(
                f"cannot resume: {config.dataset} is not the data that {run.path} was started with, "
                f"{stored_config.dataset}: {changed}"
            )
        stored_config = dataclasses.replace(stored_config, dataset=config.dataset)
    requested, stored = flatten(config.to_dict()), flatten(stored_config.to_dict())
    if requested != stored:
        differing = {key: value for key, value in stored.items() if requested.get(key) != value}
        found = ", ".join(f"{key} {value!r}" for key, value in differing.items()) or "fewer settings"
        raise RunError(f"cannot resume: the run was started with {found}; omit these options, or use a new --output")
    if run.summary_file.exists():
        raise RunError(f"{run.path} has ended; to train longer, use more --epochs and a new --output")
    if labelled.tolist() != run.load_provenance().get("labelled_images", labelled.tolist()):
        raise RunError(
            f"cannot resume: the labels of {config.dataset} have changed, so that other images would be labelled; "
            "restore labels.csv, or train a new run with a new --output"
        )


def resumed_precision(run: RunDirectory, device: str) -> Precision:
    """Return the precision of a run that is resumed, which was chosen for the device that it began on.

    Args:
        run: the run directory.
        device: "cpu" or "cuda".

    Raises:
        ValueError: this device does not compute in that precision.
    """
    precision = run.load_config().precision
    try:
        return choose_precision(device, precision)
    except ValueError as error:
        raise ValueError(
            f"{run.path} was started in {precision}, which this device lacks; resume it on one like the first, or "
            "start again with another --output"
        ) from error
