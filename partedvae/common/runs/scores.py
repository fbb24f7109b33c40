"""What the scores of runs mean: whether higher or lower values are better, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["higher", "lower", "near 1", ""]


@dataclass(frozen=True, kw_only=True)
class ScoreKind:
    """What all scores of a kind have in common."""

    better: Better = ""
    """Which values are better; empty where none is, as of a property of the data or a weighted sum."""
    is_share: bool = True
    """Whether values are shares of 1, which are written in percent."""

    def best(self, values: Sequence[float | None]) -> tuple[bool, ...]:
        """Return for each value whether it is the best; none is where all that there are are equal.

        Args:
            values: one per run; None and NaN where it was not measured.
        """
        measured = [value for value in values if value is not None and math.isfinite(value)]
        if not self.better or len(set(measured)) < 2:
            return (False,) * len(values)
        best = min(measured, key=self._badness)
        return tuple(value == best for value in values)

    def text(self, value: float | None) -> str:
        """Return a value as text, such as "98.71%" or "0.769"; a dash where it was not measured."""
        if value is None:
            return "–"
        return f"{value:.2%}" if self.is_share else f"{value:.4g}"

    def _badness(self, value: float) -> float:
        if self.better == "near 1":
            return abs(value - 1)
        return -value if self.better == "higher" else value


_UNKNOWN = ScoreKind(is_share=False)
_HIGHER_SHARE = ScoreKind(better="higher")
_HIGHER = ScoreKind(better="higher", is_share=False)
_LOWER_SHARE = ScoreKind(better="lower")
_LOWER = ScoreKind(better="lower", is_share=False)

RESULT_KINDS: dict[str, ScoreKind] = {
    "accuracy": _HIGHER_SHARE,
    "generation": _HIGHER_SHARE,
    "generation_worst": _HIGHER_SHARE,
    "exchange": _HIGHER_SHARE,
    "redraw": _HIGHER_SHARE,
    "reconstruction": _HIGHER_SHARE,  # The share of reconstructions that show their class.
    "diversity": ScoreKind(better="near 1", is_share=False),  # The variance of real images is 1.
    "probe_u_linear": _HIGHER_SHARE,
    "probe_u_mlp": _HIGHER_SHARE,
    "probe_u_samples_linear": _HIGHER_SHARE,
    "probe_u_samples_mlp": _HIGHER_SHARE,
    "probe_z_linear": _LOWER_SHARE,
    "probe_z_mlp": _LOWER_SHARE,
    "probe_z_samples_linear": _LOWER_SHARE,
    "probe_z_samples_mlp": _LOWER_SHARE,
    "amount_u": _HIGHER,
    "amount_z": _LOWER,
    "factor_vae": _HIGHER,
    "factor_paper": _HIGHER,
    "mig": _HIGHER,
    "dci_disentanglement": _HIGHER,
    "dci_completeness": _HIGHER,
    "dci_informativeness": _HIGHER,
    "sap": _HIGHER,
    # Of the data, and not of the model.
    "oracle_accuracy": ScoreKind(),
    "probe_chance": ScoreKind(),
}
"""Kinds of the scores of a result, by the part of their names before the first slash."""

METRIC_KINDS: dict[str, ScoreKind] = {
    "test/accuracy": _HIGHER_SHARE,
    "test/information": _HIGHER,
    "test/reconstruction": _LOWER,
    "test/dead_units": _LOWER_SHARE,
}
"""Kinds of the metrics of an epoch, by their names without those of factors. Losses are left out: their weights differ
between runs, and a lower one is not a better model."""


def score_kind(name: str, differing: Collection[str] = ()) -> ScoreKind:
    """Return the kind of a score of a result.

    Args:
        name: name of the score, such as "generation/digit"; of an unknown one no value is better.
        differing: keys of the settings in which the compared runs differ; of different data sets no value is better.
    """
    return _comparable(RESULT_KINDS.get(name.partition("/")[0], _UNKNOWN), {"dataset"}, differing)


def metric_kind(name: str, differing: Collection[str] = ()) -> ScoreKind:
    """Return the kind of a metric of an epoch.

    Args:
        name: name of the metric, such as "test/accuracy/digit".
        differing: as for `score_kind`.
    """
    # Binary cross-entropies and absolute differences have different scales.
    needed = {"dataset", "objective.reconstruction"} if name == "test/reconstruction" else {"dataset"}
    return _comparable(METRIC_KINDS.get("/".join(name.split("/")[:2]), _UNKNOWN), needed, differing)


def is_of_one_class(name: str) -> bool:
    """Return whether a score of a result is that of a single class, such as "generation/digit/7"."""
    return name.startswith("generation/") and name.count("/") > 1


def _comparable(kind: ScoreKind, needed: set[str], differing: Collection[str]) -> ScoreKind:
    return replace(kind, better="") if needed & set(differing) else kind
