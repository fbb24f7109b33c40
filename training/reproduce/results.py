"""The stored results of experiments: a JSON file with one entry per run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from partedvae.common.atomic_write import write_json
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.names import FILE_PREFIX

RECIPE_OF_BUDGET = {"short": "default", "full": "paper"}
"""Recipes by their former name, the value of --budget."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run of an experiment."""

    experiment: str
    """Name of the experiment."""
    variant: str
    """Name of the variant."""
    recipe: str
    """Name of the recipe: default or paper."""
    seed: int
    """Random seed of the run."""
    labels: int
    """Number of labelled images."""
    epochs: int
    """Number of epochs."""
    train_seconds: float
    """Duration of training."""
    data: str
    """"drawn" or "original"."""
    measures: dict[str, float]
    """Measured values, by name."""
    command: str
    """Command that produced the result."""
    commit: str
    """Commit of the code."""
    date: str
    """Date of the result, as YYYY-MM-DD."""
    config: dict[str, Any]
    """The run's configuration, as in its config.json."""
    separation: dict[str, float] = field(default_factory=dict)
    """Whether u and not z has the class (`Measures.flat`); empty for results that are older than these measures."""
    device: str = "cpu"
    """Where it was trained: "cpu", or the name of a GPU. Results that are older than this field are of CPUs."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Identity of the run: a newer result with the same key replaces an older one."""
        return (self.experiment, self.variant, self.recipe, self.seed)

    def is_of(self, config: TrainConfig) -> bool:
        """Return whether this configuration produced it; a field that is newer than the result has its default."""
        try:
            return is_same(config, TrainConfig.from_dict(self.config))
        except (ValueError, KeyError, TypeError):
            return False


def is_same(config: TrainConfig, trained: TrainConfig) -> bool:
    """Return whether a run was trained with a configuration.

    Precision "auto" is whatever its machine had, and a list of labelled images and a run of features may be in another
    folder of runs.
    """
    if config.precision == "auto":
        config = replace(config, precision=trained.precision)
    return _without_folder(config) == _without_folder(trained)


def _without_folder(config: TrainConfig) -> TrainConfig:
    """Return a configuration with paths below `suggest` in the folder of runs."""
    path = config.labelled.removeprefix(FILE_PREFIX)
    listed = config.labelled if path == config.labelled else f"{FILE_PREFIX}{'/'.join(Path(path).parts[-2:])}"
    return replace(config, labelled=listed, features_run="/".join(Path(config.features_run).parts[-3:]))


def load_results(path: Path) -> list[Result]:
    """Return the stored results, an empty list where the file does not exist yet.

    Raises:
        ValueError: the file contains something else.
    """
    if not path.exists():
        return []
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [Result(**_current_keys(entry)) for entry in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is not a results file of 'partedvae reproduce': {error}; choose another --results"
        ) from error


def _current_keys(entry: dict[str, Any]) -> dict[str, Any]:
    """Rename the keys of an entry that was written by version 0.1."""
    entry = dict(entry)
    if "budget" in entry:
        entry["recipe"] = RECIPE_OF_BUDGET[entry.pop("budget")]
    if "row" in entry:
        entry["variant"] = entry.pop("row")
    return entry


def store_result(path: Path, result: Result) -> list[Result]:
    """Add a result to the file, replacing one with the same key; return all results."""
    results = [other for other in load_results(path) if other.key != result.key] + [result]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [asdict(entry) for entry in results])
    return results
