"""Noticing a run that has died: a q(c) that says nothing of the image, or a z that does not."""

from __future__ import annotations

from training.evaluation import Evaluation, FactorEvaluation

COLLAPSED_SHARE = 0.1
"""q(c | x) has collapsed when it knows less than this share of H(p(c)). A healthy MNIST run knows over 0.9 of it."""
DEAD_SPREAD = 0.01
"""z is dead when the means of no dimension deviate by more than this over images; the prior's deviation is 1."""


def warnings(evaluation: Evaluation) -> list[str]:
    """Return a sentence for everything that has died, with what to do about it.

    The measure of c is the information I(x; c) rather than KL(q(c) || p(c)) alone: it sees both ways to collapse, all
    images in one class (the entropy term beat the labels) and all images in all classes alike.
    """
    found = [
        _collapse(factor)
        for factor in evaluation.factors
        if factor.information < COLLAPSED_SHARE * factor.prior_entropy
    ]
    if evaluation.z_spread < DEAD_SPREAD:
        found.append(
            f"z is dead: its means differ by at most {evaluation.z_spread:.4f} over images; "
            "lower optimiser.learning_rate or objective.gamma_z, or try another --seed"
        )
    return found


def _collapse(factor: FactorEvaluation) -> str:
    name, share = factor.largest_share
    return (
        f"q(c) of {factor.name!r} has collapsed: it knows {factor.information:.3f} of {factor.prior_entropy:.2f} nats, "
        f"class {name!r} has {share:.0%} of the images, KL(q(c) || p(c)) is {factor.prior_mismatch:.2f}; raise "
        "optimiser.supervised_learning_rate to optimiser.learning_rate, lower objective.gamma_h, or try another --seed"
    )
