"""A stored run as plain data: configuration, provenance, metrics, result and figures of a run directory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from partedvae.common.flatten import flatten
from partedvae.common.regular_files import read_file
from partedvae.common.runs.nearby import CONFIG_FILE, suggestion
from partedvae.common.runs.old_names import ADDED_CONFIG_KEYS, current_config, current_metrics

PROVENANCE_FILE = "provenance.json"
METRICS_FILE = "metrics.jsonl"
SUMMARY_FILE = "summary.json"
FIGURES_FOLDER = "figures"
"""Folder of the PNG files of `partedvae figures` in a run directory."""
_REMEDY = "restore the file, or train the run again"


class StoredRunError(ValueError):
    """A run directory is missing, or one of its files is damaged; the message names it."""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """What the files of a run directory hold."""

    path: Path
    """The run directory."""
    config: dict[str, Any]
    """The configuration by dotted key, with the current names; `model.factors` by the names of the factors."""
    provenance: dict[str, Any]
    """Command, commit, versions, machine and data; empty where the run has none."""
    metrics: list[dict[str, float]]
    """One entry per epoch, with `epoch` and `step`; values may be NaN."""
    summary: dict[str, Any] | None
    """The result; None before the end of training."""
    figures: tuple[str, ...]
    """Names of the PNG files in the folder of figures."""

    @property
    def epochs_done(self) -> int:
        """Number of epochs that have ended."""
        last = self.metrics[-1]["epoch"] if self.metrics else 0
        return int((self.summary or {}).get("epochs", last))

    @property
    def state(self) -> str:
        """The state in words: "finished", or the epoch that an unfinished run has reached."""
        return "finished" if self.summary is not None else f"unfinished: epoch {self.epochs_done} of {self.epochs}"

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole training."""
        return int(self.config["epochs"])

    @property
    def seconds(self) -> float | None:
        """Duration of training in seconds; None before its end."""
        return None if self.summary is None else self.summary.get("train_seconds")

    @property
    def accuracy_texts(self) -> dict[str, str]:
        """The accuracy of each factor as text, of few test images with its interval; early versions have none."""
        texts: dict[str, str] = (self.summary or {}).get("accuracy_text", {})
        return texts

    @property
    def warnings(self) -> list[str]:
        """What the model does not keep of the method's promises."""
        found: list[str] = (self.summary or {}).get("warnings", [])
        return found

    @cached_property
    def scores(self) -> dict[str, float]:
        """The scores of the result by name: "accuracy/digit", "generation/digit", "mig"; empty before its end."""
        summary = self.summary or {}
        accuracies = {f"accuracy/{name}": value for name, value in summary.get("accuracy", {}).items()}
        return {**accuracies, **summary.get("measures", {}), **summary.get("disentanglement", {})}

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Return the epochs in which a metric was measured, each with its value; without NaN and infinite values."""
        rows = [row for row in self.metrics if metric in row and math.isfinite(row[metric])]
        return [(int(row["epoch"]), row[metric]) for row in rows]


def read_run(path: Path) -> StoredRun:
    """Read the files of a run directory.

    Args:
        path: the run directory; its training may be going on, or have been stopped.

    Raises:
        StoredRunError: it is not a run directory, or a file is damaged.
    """
    config_file = path / CONFIG_FILE
    try:
        content = read_file(config_file)
    except (FileNotFoundError, NotADirectoryError):
        remedy = suggestion(path) or "train one with 'partedvae train'"
        raise StoredRunError(f"{path} is not a run directory: {CONFIG_FILE} is missing; {remedy}") from None
    except OSError as error:
        raise _unreadable(config_file, error) from error
    summary = _optional(path / SUMMARY_FILE)
    return StoredRun(
        path=path,
        config=_config(config_file, _object(config_file, content)),
        provenance=_optional(path / PROVENANCE_FILE) or {},
        metrics=read_metrics(path / METRICS_FILE),
        summary=None if summary is None else _checked_summary(path / SUMMARY_FILE, summary),
        figures=_figures(path / FIGURES_FOLDER),
    )


def _config(file: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration by dotted key, with the current names."""
    try:
        current = current_config(values)
        model = dict(current["model"])
        model["factors"] = {factor["name"]: _without_name(factor) for factor in model["factors"]}
        flat = flatten({**current, "model": model})
        epochs = flat["epochs"]
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise StoredRunError(f"{file} is not the configuration of a run: {reason}; {_REMEDY}") from error
    if not isinstance(epochs, int):
        raise StoredRunError(f"{file} is not the configuration of a run: epochs is {epochs!r}; {_REMEDY}")
    return {**flat, **{key: value for key, value in ADDED_CONFIG_KEYS.items() if key not in flat}}


def _without_name(factor: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in factor.items() if key != "name"}


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Return the entries of metrics.jsonl with the current names; none before the end of the first epoch.

    Args:
        file: the file. A last line without its end, which is being written or was interrupted, is left out.

    Raises:
        StoredRunError: a line is damaged, or the file cannot be read.
    """
    try:
        content = read_file(file)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(file, error) from error
    *lines, _ = content.split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        row = _object(file, line, f", line {number}")
        if not isinstance(row.get("epoch"), int) or "step" not in row or not _are_numbers(row):
            raise StoredRunError(f"{file}, line {number}: it is not the metrics of an epoch; {_REMEDY}")
        rows.append(current_metrics(row))
    return rows


def _checked_summary(file: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Return a summary whose scores and numbers have been found to be such."""
    checks: dict[str, Callable[[Any], bool]] = {
        "epochs": _is_number,
        "train_seconds": _is_number,
        "accuracy": _are_numbers,
        "measures": _are_numbers,
        "disentanglement": _are_numbers,
        "accuracy_text": lambda value: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
        "warnings": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    }
    for key, is_valid in checks.items():
        if key in summary and not is_valid(summary[key]):
            raise StoredRunError(f"{file} is not the summary of a run: {key} is {summary[key]!r}; {_REMEDY}")
    return summary


def _figures(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(file.name for file in folder.glob("*.png") if file.is_file()))
    except OSError as error:
        raise _unreadable(folder, error) from error


def _optional(file: Path) -> dict[str, Any] | None:
    """Return the object of a JSON file; None where there is no such file."""
    try:
        return _object(file, read_file(file))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(file, error) from error


def _object(file: Path, content: bytes, place: str = "") -> dict[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoredRunError(f"{file}{place} cannot be read: {error}; {_REMEDY}") from error
    if not isinstance(values, dict):
        raise StoredRunError(f"{file}{place} has no JSON object; {_REMEDY}")
    return values


def _are_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unreadable(file: Path, error: OSError) -> StoredRunError:
    return StoredRunError(f"{file} cannot be read: {error.strerror or error}; {_REMEDY}")


def finite(value: float | None) -> float | None:
    """Return a value for JSON, which has no NaN and no infinity: those become None."""
    return value if value is not None and math.isfinite(value) else None
