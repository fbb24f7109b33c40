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

    meaning: str = ""
    """What is measured, in a few words; empty for a metric that is not in the tables below."""
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


def _share(meaning: str, better: Better = "higher") -> ScoreKind:
    return ScoreKind(meaning=meaning, better=better)


def _number(meaning: str, better: Better = "higher") -> ScoreKind:
    return ScoreKind(meaning=meaning, better=better, is_share=False)


RESULT_KINDS: dict[str, ScoreKind] = {
    "accuracy": _share("test images whose class is predicted"),
    "oracle_accuracy": _share("accuracy of the oracle itself on test images, a property of the data", ""),
    "generation": _share("images drawn for a class that show it"),
    "generation_worst": _share("the same, of the worst class"),
    "exchange": _share("images decoded with the z of another that show their class"),
    "redraw": _share("images decoded with a drawn z that show their class"),
    "reconstruction": _share("reconstructions that show their class"),
    "diversity": _number("variance of drawn images within a class, relative to test images", "near 1"),
    "probe_u_linear": _share("class predicted from the means of u by a linear classifier"),
    "probe_u_mlp": _share("class predicted from the means of u by a small network"),
    "probe_z_linear": _share("class predicted from the means of z by a linear classifier", "lower"),
    "probe_z_mlp": _share("class predicted from the means of z by a small network", "lower"),
    "probe_u_samples_linear": _share("class predicted from samples of u by a linear classifier"),
    "probe_u_samples_mlp": _share("class predicted from samples of u by a small network"),
    "probe_z_samples_linear": _share("class predicted from samples of z by a linear classifier", "lower"),
    "probe_z_samples_mlp": _share("class predicted from samples of z by a small network", "lower"),
    "probe_chance": _share("accuracy of a guess, a property of the data", ""),
    "amount_u": _number("R^2 of a true amount predicted from u"),
    "amount_z": _number("R^2 of a true amount predicted from z", "lower"),
    "factor_vae": _number("Factor score of Kim and Mnih"),
    "factor_paper": _number("Factor score of the paper"),
    "mig": _number("mutual information gap"),
    "dci_disentanglement": _number("DCI: dimensions that contain a single factor"),
    "dci_completeness": _number("DCI: factors that are contained in a single dimension"),
    "dci_informativeness": _number("DCI: accuracy of the factors predicted from the latents"),
    "sap": _number("separated attribute predictability"),
}
"""Kinds of the scores of a result, by the part of their names before the first slash."""

METRIC_KINDS: dict[str, ScoreKind] = {
    "test/accuracy": _share("test images whose class is predicted"),
    "test/information": _number("mutual information of image and class in nats"),
    "test/reconstruction": _number("reconstruction error per test image", "lower"),
    "test/dead_units": _share("units of h that are the same for every image", "lower"),
}
"""Kinds of the metrics of an epoch, by their names without those of factors. Losses are left out: their weights differ
between runs, and a lower one is not a better model."""

_UNKNOWN = ScoreKind(is_share=False)


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
