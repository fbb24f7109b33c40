"""Checks before a run is resumed: it must have the same configuration and must not have ended; its precision."""

from __future__ import annotations

from partedvae.training.config.flatten import flatten
from partedvae.training.config.train_config import Precision, TrainConfig
from partedvae.training.engine.device import choose_precision
from partedvae.training.runs.directory import RunDirectory, RunError


def require_resumable(run: RunDirectory, config: TrainConfig) -> None:
    """Check that a run can be resumed.

    Args:
        run: the run directory.
        config: the requested configuration.

    Raises:
        RunError: the run has another configuration, or it has ended.
    """
    requested, stored = flatten(config.to_dict()), flatten(run.load_config().to_dict())
    if requested != stored:
        differing = {key: value for key, value in stored.items() if requested.get(key) != value}
        differences = ", ".join(f"{key} {value!r}" for key, value in differing.items()) or "fewer settings"
        raise RunError(
            f"cannot resume: the run was started with {differences}; pass the same options, or use a new --output"
        )
    if run.summary_file.exists():
        raise RunError(f"{run.path} has ended; to train longer, use more --epochs and a new --output")


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
