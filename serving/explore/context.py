"""What all pages share: the model, and the files that the command was given. It never has a visitor's state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partedvae.serving.explore.features.feature_map import FeatureMap
from partedvae.serving.explore.labelling.workspace import Workspace
from partedvae.serving.explore.model import ModelAccess


@dataclass(frozen=True, kw_only=True)
class Context:
    """The options of the command, as pages use them; None where an option is not given."""

    model: ModelAccess | None = None
    """The model of --model or --server."""
    features: FeatureMap | None = None
    """Features of the file that `partedvae extract` has written."""
    runs: Path | None = None
    """Folder of runs."""
    label: Path | None = None
    """Folder of images to label."""
    labelling: Workspace | None = None
    """That folder, its labels, and what runs on it."""
