"""Checks before a run is resumed: the same configuration and labels, and not ended; and its precision."""

from __future__ import annotations

import dataclasses

from jaxtyping import Int
from torch import Tensor

from partedvae.common.flatten import flatten
from partedvae.training.config.train_config import Precision, TrainConfig
from partedvae.training.data.names import FILE_PREFIX, FOLDER, resolve_path
from partedvae.training.engine.device import choose_precision
from partedvae.training.runs.directory import RunDirectory, RunError


def require_resumable(run: RunDirectory, config: TrainConfig, labelled: Int[Tensor, " labelled"]) -> None:
    """Check that a run can be resumed, with the files that it was started with (`check_run_dataset`).

    A folder of images may have moved.

    Args:
        run: the run directory.
        config: the requested configuration.
        labelled: indices of the training images whose labels would be used.

    Raises:
        RunError: the run has another configuration or other labels, or it has ended.
    """
    stored_config = run.load_config()
    # Runs of earlier versions have a relative path of their list of labelled images.
    stored_config = dataclasses.replace(stored_config, labelled=resolve_path(stored_config.labelled, FILE_PREFIX))
    if config.dataset.startswith(FOLDER):
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
            f"cannot resume: labelled={config.labelled} no longer selects the images whose labels the run was started "
            "with; restore the list of labelled images, or train a new run with another --output"
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
