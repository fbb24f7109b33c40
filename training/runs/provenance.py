"""The provenance of a run: how it came to be, so that it can be repeated."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from partedvae.training.data.dataset import ImageDataset, count_labels


def provenance_of(dataset: ImageDataset, labelled: Int[Tensor, " labels"], device: str) -> dict[str, Any]:
    """Return what provenance.json says of a run that starts now.

    Args:
        dataset: the data set, whose checksums are recorded.
        labelled: indices of the labelled training images.
        device: name of the device that the run trains on.
    """
    return {
        # Without the path of the installation, which has the name of a user.
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
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
            "devices": [device],
            "threads": torch.get_num_threads(),
        },
        "data": dataset.source,
        "labelled_images": labelled.tolist(),
        "label_counts": _count_labels(dataset, labelled),
    }


def _count_labels(dataset: ImageDataset, labelled: Int[Tensor, " labels"]) -> dict[str, int]:
    """Count the labels of each factor; a labelled image may lack the label of some factors."""
    counts = count_labels(dataset.train.labels[labelled])
    return {factor.name: count for factor, count in zip(dataset.info.factors, counts, strict=True)}


def _commit() -> str:
    """Return the commit of the checkout of this code, with "-dirty" if files were changed; "" outside a checkout."""
    code = Path(__file__).resolve()
    try:
        # An environment in a user's project is in a checkout too, which is not that of this code.
        _git(code.parent, "ls-files", "--error-unmatch", code.name)
        return _git(code.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
