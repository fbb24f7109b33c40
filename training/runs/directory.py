"""The run directory: configuration, provenance, checkpoint, metrics and summary of a training run.

config.json      the complete configuration
provenance.json  command, commit, versions, machine, checksums of the data, indices of the labelled images, label counts
groups.pt        labels of groups, of a run with --features
checkpoint.pt    the latest state: weights, optimisers, schedulers, step, random state
metrics.jsonl    one line per epoch
events.out.*     the same metrics for TensorBoard
summary.json     the result, written at the end of training
.lock            which process trains the run; one that was killed leaves it, which does not matter
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from partedvae.common.atomic_write import appending, atomic_write, write_json
from partedvae.common.folder_lock import folder_lock
from partedvae.common.runs.nearby import CONFIG_FILE, suggestion
from partedvae.common.runs.stored_run import METRICS_FILE, PROVENANCE_FILE, SUMMARY_FILE, read_metrics
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.provenance import provenance_of

REMEDY = "restore the file, or train the run again"
"""Remedy of a damaged file."""
UNKNOWN = "unknown"
"""Device of a run that is older than its record."""


class RunError(ValueError):
    """A run directory is missing, damaged, or does not match the request."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run, and reading and writing its files."""

    path: Path

    @property
    def config_file(self) -> Path:
        """File of the complete configuration."""
        return self.path / CONFIG_FILE

    @property
    def provenance_file(self) -> Path:
        """File of the provenance: command, versions, machine and data."""
        return self.path / PROVENANCE_FILE

    @property
    def checkpoint_file(self) -> Path:
        """File of the latest training state."""
        return self.path / "checkpoint.pt"

    @property
    def groups_file(self) -> Path:
        """File of the labels of groups, which only runs with a run of features have."""
        return self.path / "groups.pt"

    @property
    def metrics_file(self) -> Path:
        """File of the metrics, one line per epoch; `read_metrics` reads it."""
        return self.path / METRICS_FILE

    @property
    def summary_file(self) -> Path:
        """File of the result; it exists only after the end of training."""
        return self.path / SUMMARY_FILE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the directory for the duration of the block.

        The directory is created, and deleted again if the block leaves nothing in it.

        Raises:
            RunError: another process trains this run.
        """
        is_new = not self.path.exists()
        try:
            with folder_lock(self.path, lambda holder: RunError(f"{holder}; wait until it has ended, or stop it")):
                yield
        finally:
            if is_new:
                with suppress(OSError):  # It is not empty.
                    self.path.rmdir()

    def require_new(self) -> None:
        """Check that the directory does not contain a run.

        Raises:
            RunError: it contains one.
        """
        if self.config_file.exists():
            raise RunError(f"{self.path} already contains a run; continue it with --resume, or choose another --output")

    def start(
        self,
        config: TrainConfig,
        dataset: ImageDataset,
        labelled: Tensor,
        device: str,
        group_label_counts: Mapping[str, int] | None = None,
    ) -> None:
        """Create the directory and write configuration and provenance.

        Args:
            config: the configuration.
            dataset: the data set, whose checksums are recorded.
            labelled: indices of the labelled training images.
            device: name of the device that it trains on (`DistributedContext.device_name`).
            group_label_counts: number of labels of groups by factor; None of a run without a run of features.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        provenance = provenance_of(dataset, labelled, device)
        if group_label_counts is not None:
            provenance["group_label_counts"] = dict(group_label_counts)
        write_json(self.provenance_file, provenance)
        self.save_config(config)

    def devices(self) -> list[str]:
        """Return the names of the devices that the run was trained on, without repetition."""
        devices: list[str] = self.load_provenance().get("machine", {}).get("devices", [UNKNOWN])
        return devices

    def add_device(self, device: str) -> None:
        """Record that a run is resumed on a device; on the same one as before, nothing is written."""
        if device not in (devices := self.devices()):
            provenance = self.load_provenance()
            provenance.setdefault("machine", {})["devices"] = [*devices, device]
            write_json(self.provenance_file, provenance)

    def save_config(self, config: TrainConfig) -> None:
        """Write the configuration."""
        write_json(self.config_file, config.to_dict())

    def load_config(self) -> TrainConfig:
        """Return the configuration.

        Raises:
            RunError: the configuration is missing or cannot be read.
        """
        try:
            return TrainConfig.from_dict(json.loads(self.config_file.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            remedy = suggestion(self.path) or "train one with 'partedvae train'"
            raise RunError(
                f"{self.path} is not a run directory: {self.config_file.name} is missing; {remedy}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.config_file} cannot be read: {error}; {REMEDY}") from error

    def load_provenance(self) -> dict[str, Any]:
        """Return the provenance.

        Raises:
            RunError: the file is missing or cannot be read.
        """
        return _load_json(self.provenance_file)

    def load_label_counts(self) -> dict[str, int]:
        """Return the number of training labels of each factor of the model.

        Raises:
            RunError: the run cannot be read.
        """
        config, counts = self.load_config(), self.load_provenance().get("label_counts")
        # Runs of early versions have no counts: any labelled image may have had a label of any factor.
        return {factor.name: counts[factor.name] if counts else config.labels for factor in config.model.factors}

    def load_summary(self) -> dict[str, Any]:
        """Return the result of a finished run.

        Raises:
            RunError: the file is missing or cannot be read.
        """
        return _load_json(self.summary_file)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint atomically.

        Raises:
            OSError: the disk is full, or the file cannot be written; the earlier checkpoint is unchanged.
        """
        save_tensors(self.checkpoint_file, state)

    def load_checkpoint(self, device: torch.device) -> dict[str, Any]:
        """Return the latest training state.

        Args:
            device: device that its tensors are loaded to.

        Raises:
            RunError: there is no checkpoint yet, or it is damaged.
        """
        try:
            return _load_tensors(self.checkpoint_file, device)
        except FileNotFoundError:
            raise RunError(
                f"{self.path} has no checkpoint yet; wait for the end of its first epoch, or use --resume"
            ) from None

    def load_model(self, device: torch.device) -> tuple[PartedVAE, dict[str, Any]]:
        """Return the final model (with the averaged weights, where the run has them) and the checkpoint.

        Raises:
            RunError: the run or its checkpoint is missing or damaged.
        """
        config = self.load_config()
        state = self.load_checkpoint(device)
        model = PartedVAE(config.model)
        try:
            model.load_state_dict(state["final_model"])
        except (RuntimeError, KeyError) as error:
            raise RunError(
                f"{self.checkpoint_file} does not match {self.config_file.name}: {error}; {REMEDY}"
            ) from error
        return model.to(device).eval(), state

    def save_groups(self, labels: dict[str, Tensor]) -> None:
        """Write the labels of groups, before the run starts.

        Args:
            labels: `images` and `labels` of `engine.groups.GroupLabels`.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        save_tensors(self.groups_file, labels)

    def load_groups(self) -> dict[str, Tensor] | None:
        """Return the labels of groups that `save_groups` has written, None where there are none.

        Raises:
            RunError: the file is damaged.
        """
        try:
            return _load_tensors(self.groups_file, torch.device("cpu"))
        except FileNotFoundError:
            return None

    def append_metrics(self, metrics: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        with appending(self.metrics_file) as file:
            file.write(json.dumps(metrics).encode() + b"\n")

    def keep_metrics_until(self, epoch: int) -> int:
        """Remove the lines after an epoch, which a resumed run writes again, and one that was half written.

        Returns:
            The step of the last line that is kept; 0 if there is none.

        Raises:
            ValueError: a line is damaged.
        """
        if not self.metrics_file.exists():
            return 0
        rows = [row for row in read_metrics(self.metrics_file) if row["epoch"] <= epoch]
        with atomic_write(self.metrics_file) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return int(rows[-1]["step"]) if rows else 0


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a dictionary of tensors, atomically.

    Args:
        path: the file to write.
        state: tensors and other values that `torch.load` reads with `weights_only`.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    # Through memory: where the disk is full, torch.save raises a RuntimeError about its own format.
    content = io.BytesIO()
    torch.save(state, content)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _load_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: the file is missing or cannot be read.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}; {REMEDY}") from error
    return values


def _load_tensors(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what `save_tensors` has written.

    Raises:
        FileNotFoundError: there is no such file.
        RunError: the file is damaged or cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # Of any kind: torch.load has no error of its own.
        raise RunError(f"{path} is damaged ({type(error).__name__}); {REMEDY}") from error
    return state
