"""Results that are kept: a JSON file with one entry a run, and the page that is made of it."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from partedvae.common.atomic_write import atomic_write, write_json
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.reproduce.experiments import EXPERIMENTS, Experiment, Row

HEADER = """# Results

Made by `partedvae reproduce`; every line is a training run, and no seed is chosen. `full` is the recipe `paper`: the
paper's objective and schedule. `short` is the recipe `default`, which takes minutes on two cores and is not the paper's
in all: ramps and rates are those of a short run; for MNIST a supervised warm start, augmentation, consistency and a
moving average of the weights use the labels better; for faces there are two more terms
(`training/objectives/regularisers.py`),
and modes that begin in a row. So a score above the paper's is not the paper's method alone. A run is repeated when its
recipe has changed: what is here was made by the recipe of the commit in its line. Where a data set was drawn rather
than the original, the line says so. CelebA needs files that only its users have and that were not here; the drawn
`faces` stand for it.

`factor_paper` is the Factor score as the paper's authors compute it, the one to hold beside the paper's, but on 40,000
images drawn from dSprites where theirs is on all 737,280; `factor_vae` is Kim and Mnih's own. "off u" and "off z" are
the test accuracies of a small network that reads the class off u (it should) and off z (it should not).
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run of an experiment."""

    experiment: str
    """Name of the experiment."""
    row: str
    """Name of the line."""
    budget: str
    """short or full."""
    seed: int
    """Seed of the run."""
    labels: int
    """Labelled images."""
    epochs: int
    """Epochs trained."""
    train_seconds: float
    """How long it trained."""
    data: str
    """"drawn" or "original"."""
    measures: dict[str, float]
    """What was measured."""
    command: str
    """What made it."""
    commit: str
    """Commit of the code."""
    date: str
    """Day, as YYYY-MM-DD."""
    config: dict[str, Any]
    """The run's configuration, as in its config.json."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What tells one run from another."""
        return (self.experiment, self.row, self.budget, self.seed)

    def is_of(self, config: TrainConfig) -> bool:
        """Say whether it was made by this configuration; a field that is newer than the result has its default."""
        try:
            return TrainConfig.from_dict(self.config) == config
        except (ValueError, KeyError, TypeError):
            return False


def load_results(path: Path) -> list[Result]:
    """Read the kept results; none where there is no file yet.

    Raises:
        ValueError: it holds something else.
    """
    if not path.exists():
        return []
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [Result(**entry) for entry in entries]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no results of 'partedvae reproduce': {error}; move it away") from error


def keep_result(path: Path, result: Result) -> list[Result]:
    """Add a result to the file, in place of an earlier run of the same line, budget and seed; return all."""
    kept = [other for other in load_results(path) if other.key != result.key] + [result]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [asdict(entry) for entry in kept])
    return kept


def write_page(path: Path, results: list[Result]) -> None:
    """Write the page of all results."""
    text = HEADER + "".join(_section(name, results) for name in EXPERIMENTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _section(name: str, results: list[Result]) -> str:
    experiment = EXPERIMENTS[name]
    parts = [f"\n## {experiment.title}\n"]
    for budget in ("short", "full"):
        here = [r for r in results if r.experiment == name and r.budget == budget]
        if here:
            seeds = ",".join(str(seed) for seed in sorted({r.seed for r in here}))
            parts.append(f"\n`partedvae reproduce {name} --budget {budget} --seeds {seeds}`\n\n")
            parts.append(table(experiment, here))
    if len(parts) == 1:
        parts.append(f"\nNot run here yet: `partedvae reproduce {name}`.\n")
    return "".join(parts)


def table(experiment: Experiment, results: list[Result]) -> str:
    """Return a Markdown table: a line a run, and a line with mean and deviation where a row has several seeds."""
    measures = list(dict.fromkeys(name for r in results for name in r.measures))
    titles = ["", "paper", "labels", "seed", *measures, "epochs", "seconds", "data", "commit", "date"]
    lines = [titles, ["---"] * len(titles)]
    for row in experiment.rows:
        runs = sorted((r for r in results if r.row == row.name), key=lambda r: r.seed)
        lines += [_line(row, run, measures) for run in runs]
        if len(runs) > 1:
            lines.append(_mean_line(row, runs, measures))
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _line(row: Row, run: Result, measures: list[str]) -> list[str]:
    values = [f"{run.measures[name]:.3f}" if name in run.measures else "" for name in measures]
    facts = [str(run.epochs), f"{run.train_seconds:.0f}", run.data, run.commit[:9], run.date]
    return [row.name, _paper(row), f"{run.labels:,}", str(run.seed), *values, *facts]


def _mean_line(row: Row, runs: list[Result], measures: list[str]) -> list[str]:
    values = []
    for name in measures:
        numbers = [run.measures[name] for run in runs if name in run.measures]
        spread = f" ± {statistics.stdev(numbers):.3f}" if len(numbers) > 1 else ""
        values.append(f"**{statistics.mean(numbers):.3f}{spread}**" if numbers else "")
    return [f"**{row.name}**", _paper(row), "", f"mean of {len(runs)}", *values, "", "", "", "", ""]


def _paper(row: Row) -> str:
    return ", ".join(row.paper.values())
