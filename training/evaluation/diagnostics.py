"""Noticing a run that has died: a q(c) that says nothing of the image, or a z that does not."""

from __future__ import annotations

from partedvae.training.config.train_config import MethodName
from partedvae.training.evaluation.evaluation import Evaluation, FactorEvaluation

COLLAPSED_SHARE = 0.1
"""q(c | x) has collapsed when it knows less than this share of H(p(c)). A healthy MNIST run knows over 0.9 of it."""
DEAD_SPREAD = 0.01
"""z is dead when the means of no dimension deviate by more than this over images; the prior's deviation is 1."""


def warnings(evaluation: Evaluation, method: MethodName) -> list[str]:
    """Return a sentence for everything that has died, with what to do about it.

    The measure of c is the information I(x; c) rather than KL(q(c) || p(c)) alone: it sees both ways to collapse, all
    images in one class (the entropy term beat the labels) and all images in all classes alike. Comparisons are written
    so that a NaN counts as dead.
    """
    found = []
    collapsed = [f for f in evaluation.factors if not f.information >= COLLAPSED_SHARE * f.prior_entropy]
    if collapsed:
        found.append(
            f"q(c) has collapsed: {'; '.join(map(_told, collapsed))}. Check that optimiser.supervised_learning_rate is "
            "not below optimiser.learning_rate, lower objective.gamma_h, give more --labels, or try another --seed"
        )
    # The classifier trains no z.
    if method != "classifier" and not evaluation.z_spread >= DEAD_SPREAD:
        weight = "objective.gamma_z" if method == "partedvae" else "baseline.weight"
        found.append(
            f"z is dead: its means deviate by at most {evaluation.z_spread:.4f} over images; "
            f"lower optimiser.learning_rate or {weight}, or try another --seed"
        )
    return found


def _told(factor: FactorEvaluation) -> str:
    name, share = factor.largest_share
    return (
        f"{factor.name} knows {factor.information:.3f} of {factor.prior_entropy:.2f} nats of the image, "
        f"{share:.0%} are {name!r}, KL(q(c) || p(c)) is {factor.kl_c:.2f}"
    )
