"""A run directory: what a run was told (config.json), how it came to be (provenance.json), and what it gave.

config.json      the whole configuration
provenance.json  command, commit, versions, machine, checksums of the data, indices of the labelled images, labels used
checkpoint.pt    the newest state: weights, optimisers, schedulers, step, random state
metrics.jsonl    one line an epoch
events.out.*     the same for TensorBoard
summary.json     written at the end
"""

from __future__ import annotations

import json
import pickle
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from partedvae.common.atomic_write import atomic_write, write_json
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, ImageDataset
from partedvae.training.model.partedvae import PartedVAE


class RunError(ValueError):
    """A run directory is missing, damaged, or not the one that was meant."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run and what is read and written there."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The whole configuration."""
        return self.path / "config.json"

    @property
    def provenance_file(self) -> Path:
        """How the run came to be."""
        return self.path / "provenance.json"

    @property
    def checkpoint_file(self) -> Path:
        """The newest state."""
        return self.path / "checkpoint.pt"

    @property
    def summary_file(self) -> Path:
        """The result; there only when the run has ended."""
        return self.path / "summary.json"

    def require_new(self) -> None:
        """Refuse to write over a run.

        Raises:
            RunError: there is one already.
        """
        if self.config_file.exists():
            raise RunError(f"{self.path} holds a run already; continue it with --resume, or choose another --output")

    def start(self, config: TrainConfig, dataset: ImageDataset, labelled: Tensor) -> None:
        """Make the directory and write what the run is told."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.provenance_file, _provenance(dataset, labelled))
        write_json(self.config_file, config.to_dict())

    def load_config(self) -> TrainConfig:
        """Read the configuration.

        Raises:
            RunError: there is none, or it cannot be read.
        """
        try:
            return TrainConfig.from_dict(json.loads(self.config_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is no run directory: {self.config_file.name} is missing; train one with 'partedvae train'"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.config_file} cannot be read: {error}") from error

    def load_provenance(self) -> dict[str, Any]:
        """Read how the run came to be.

        Raises:
            RunError: there is no such file, or it cannot be read.
        """
        try:
            values: dict[str, Any] = json.loads(self.provenance_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.provenance_file} cannot be read: {error}; bring it back, or train the run again"
            ) from error
        return values

    def load_label_counts(self) -> dict[str, int]:
        """Read how many labels of each of the model's factors were trained with.

        Raises:
            RunError: the run cannot be read.
        """
        config, counts = self.load_config(), self.load_provenance().get("label_counts")
        # Earlier runs do not tell: any of their labelled images may have had a label of any factor.
        return {factor.name: counts[factor.name] if counts else config.labels for factor in config.model.factors}

    def load_summary(self) -> dict[str, Any]:
        """Read the result of a run that has ended."""
        values: dict[str, Any] = json.loads(self.summary_file.read_text(encoding="utf-8"))
        return values

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, all or nothing."""
        with atomic_write(self.checkpoint_file) as temporary:
            torch.save(state, temporary)

    def load_checkpoint(self, device: torch.device) -> dict[str, Any]:
        """Read the newest state.

        Raises:
            RunError: there is none yet, or it is damaged.
        """
        try:
            state: dict[str, Any] = torch.load(self.checkpoint_file, map_location=device, weights_only=True)
        except FileNotFoundError:
            raise RunError(
                f"{self.path} has no checkpoint yet; let it train for an epoch, or continue it with --resume"
            ) from None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise RunError(
                f"{self.checkpoint_file} is damaged ({type(error).__name__}); train the run again"
            ) from error
        return state

    def load_model(self, device: torch.device) -> tuple[PartedVAE, dict[str, Any]]:
        """Return the run's model (the averaged weights where it has them) and the whole checkpoint.

        Raises:
            RunError: the run or its checkpoint is missing or damaged.
        """
        config = self.load_config()
        state = self.load_checkpoint(device)
        model = PartedVAE(config.model)
        try:
            model.load_state_dict(state["final_model"])
        except (RuntimeError, KeyError) as error:
            raise RunError(f"{self.checkpoint_file} does not fit {self.config_file.name}: {error}") from error
        return model.to(device).eval(), state

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def keep_metrics_until(self, epoch: int) -> None:
        """Drop the lines after an epoch: a resumed run writes them again."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["epoch"] <= epoch]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in rows), encoding="utf-8")


def _provenance(dataset: ImageDataset, labelled: Tensor) -> dict[str, Any]:
    return {
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {
            "partedvae": metadata.version("partedvae"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "platform": platform.platform(),
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
        },
        "data": dataset.source,
        "labelled_images": labelled.tolist(),
        "label_counts": _count_labels(dataset, labelled),
    }


def _count_labels(dataset: ImageDataset, labelled: Int[Tensor, " labels"]) -> dict[str, int]:
    """Count the labels of each factor that some training images have: a labelled image may lack that of a factor."""
    counts = (dataset.train.labels[labelled] != UNLABELLED).sum(dim=0).tolist()
    return {factor.name: count for factor, count in zip(dataset.info.factors, counts, strict=True)}


def _commit() -> str:
    """Return the commit of the checkout that this code runs from, marked where files differ from it; "" outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
