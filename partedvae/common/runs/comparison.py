"""Runs side by side: where their configurations and data differ, and which has the best scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partedvae.common.flatten import flatten
from partedvae.common.runs.nearby import runs_under
from partedvae.common.runs.scores import ScoreKind, metric_kind, score_kind
from partedvae.common.runs.stored_run import StoredRun, StoredRunError, finite, read_run

FEWEST_RUNS = 2
_ALWAYS_DIFFERENT = ("command", "started")
"""Entries of the provenance that say nothing about the difference of two runs."""
_COUNTERS = ("epoch", "step")
"""Entries of metrics.jsonl that are no metrics."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A setting, or a fact of the provenance, that is not the same in all runs."""

    key: str
    """Dotted key, such as "objective.gamma_bc" or "commit"."""
    values: tuple[Any, ...]
    """One per run; None where a run does not have it."""

    def texts(self) -> tuple[str, ...]:
        """Return the values as text; a dash where a run does not have it."""
        return tuple("–" if value is None else _text(value) for value in self.values)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score of the result, or a metric of the last epoch, of every run."""

    name: str
    """Name, such as "accuracy/digit"."""
    values: tuple[float | None, ...]
    """One per run; None where a run does not have it, NaN where it has diverged."""
    kind: ScoreKind
    """Which values are better, and how they are written."""

    @property
    def best(self) -> tuple[bool, ...]:
        """For each run whether its value is the best."""
        return self.kind.best(self.values)

    def texts(self) -> tuple[str, ...]:
        """Return the values as text."""
        return tuple(map(self.kind.text, self.values))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two or more runs side by side."""

    runs: tuple[StoredRun, ...]
    """The runs, in the order in which they were given."""
    names: tuple[str, ...]
    """A short name of each run, which no other has."""
    settings: tuple[Difference, ...]
    """The settings in which the runs differ."""
    provenance: tuple[Difference, ...]
    """Data, commit, versions and machines, where they differ."""
    scores: tuple[Score, ...]
    """The scores of the results; unfinished runs have none."""
    metrics: tuple[Score, ...]
    """The metrics of each run's last epoch."""

    @property
    def curve_names(self) -> list[str]:
        """The metrics that any run has, those on test images first."""
        names = dict.fromkeys(name for run in self.runs for row in run.metrics for name in row if name not in _COUNTERS)
        return sorted(names, key=lambda name: not name.startswith("test/"))

    @property
    def notes(self) -> list[str]:
        """What limits the comparison."""
        found = []
        if any(difference.key == "dataset" for difference in self.settings):
            found.append("the runs have different data sets, so that no value is marked as the best")
        elif any(difference.key.startswith("data.") for difference in self.provenance):
            found.append("the files of the data differ, so that scores may be of different test images")
        for run, name in zip(self.runs, self.names, strict=True):
            # Of few test images the text is a count with its interval; otherwise it repeats the score.
            texts = {factor: text for factor, text in run.accuracy_texts.items() if " of " in text}
            found += [f"{name}: accuracy of {factor} {text}" for factor, text in texts.items()]
            found += [f"{name}: {warning}" for warning in run.warnings]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as values that JSON supports; values are in the order of the runs."""
        return {
            "runs": [
                {
                    "name": name,
                    "path": str(run.path),
                    "finished": run.summary is not None,
                    "epochs_done": run.epochs_done,
                    "epochs": run.epochs,
                    "train_seconds": run.seconds,
                    "warnings": list(run.warnings),
                    "figures": list(run.figures),
                }
                for run, name in zip(self.runs, self.names, strict=True)
            ],
            "settings": {difference.key: list(difference.values) for difference in self.settings},
            "provenance": {difference.key: list(difference.values) for difference in self.provenance},
            "scores": {score.name: _score_dict(score) for score in self.scores},
            "metrics": {score.name: _score_dict(score) for score in self.metrics},
        }


def compare_runs(runs: Sequence[StoredRun]) -> Comparison:
    """Compare runs.

    Args:
        runs: the runs, at least two.

    Raises:
        StoredRunError: there are fewer.
    """
    if len(runs) < FEWEST_RUNS:
        given = f"only {runs[0].path}" if runs else "none"
        raise StoredRunError(f"a comparison needs at least two runs, and got {given}; give more run directories")
    last = [{k: v for k, v in run.metrics[-1].items() if k not in _COUNTERS} if run.metrics else {} for run in runs]
    settings = _differences([run.config for run in runs])
    differing = {difference.key for difference in settings}

    return Comparison(
        runs=tuple(runs),
        names=_short_names([run.path for run in runs]),
        settings=settings,
        provenance=_differences([_provenance(run) for run in runs]),
        scores=_scores([run.scores for run in runs], lambda name: score_kind(name, differing)),
        metrics=_scores(last, lambda name: metric_kind(name, differing)),
    )


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the run directories among paths and in folders of runs, each once, in order.

    Args:
        paths: run directories, and folders whose run directories are taken. What is neither is kept, and reading it
            gives the error.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for run in runs_under(path) or [path]:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def read_runs(paths: Iterable[Path]) -> list[StoredRun]:
    """Read run directories, and those in folders of runs.

    Args:
        paths: run directories and folders of them.

    Raises:
        StoredRunError: one is not a run, or damaged.
    """
    return [read_run(path) for path in find_runs(paths)]


def _short_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the last parts of paths, as few as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts))):
        names = tuple("/".join(part[-count:]) for part in parts)
        if len(set(names)) == len(names):
            return names
    return tuple(map(str, paths))


def _provenance(run: StoredRun) -> dict[str, Any]:
    """Return the facts of the provenance that are compared, by dotted key."""
    facts = {key: value for key, value in run.provenance.items() if key not in _ALWAYS_DIFFERENT}
    labelled = facts.pop("labelled_images", None)
    if isinstance(labelled, list):
        # Thousands of numbers, of which only the identity matters.
        digest = hashlib.sha256(json.dumps(labelled).encode()).hexdigest()
        facts["labelled_images"] = f"{len(labelled):,} images, SHA-256 {digest[:12]}"
    return flatten(facts)


def _differences(values: Sequence[dict[str, Any]]) -> tuple[Difference, ...]:
    keys = dict.fromkeys(key for one in values for key in one)
    rows = [Difference(key=key, values=tuple(one.get(key) for one in values)) for key in keys]
    return tuple(row for row in rows if any(value != row.values[0] for value in row.values))


def _scores(values: Sequence[dict[str, float]], kind: Callable[[str], ScoreKind]) -> tuple[Score, ...]:
    names = dict.fromkeys(name for one in values for name in one)
    return tuple(Score(name=name, values=tuple(one.get(name) for one in values), kind=kind(name)) for name in names)


def _score_dict(score: Score) -> dict[str, Any]:
    values = [finite(value) for value in score.values]
    return {"values": values, "better": score.kind.better or None, "best": list(score.best)}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value or "–"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False)
