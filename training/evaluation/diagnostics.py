"""Detection of collapsed models: a q(c), a z, or most of h that does not depend on the image."""

from __future__ import annotations

from partedvae.training.config.train_config import MethodName
from partedvae.training.evaluation.evaluation import Evaluation, FactorEvaluation

COLLAPSED_SHARE = 0.1
"""q(c | x) has collapsed when I(x; c) is below this share of H(p(c)); a successful MNIST run is above 0.9."""
COLLAPSED_SPREAD = 0.01
"""z has collapsed when no dimension's means have a larger standard deviation over images; that of the prior is 1."""

DEAD_SHARE = 0.5
"""Share of dead units of h above which the model has lost capacity: a ReLU that is never positive gets no gradient."""
FEWEST_FOR_UNITS = 50
"""Minimum number of images to call units dead; over a few images of few classes, many units are zero by chance."""


def collapse_warnings(evaluation: Evaluation, method: MethodName) -> list[str]:
    """Return one warning with a remedy for each latent that has collapsed, and for dead units of h.

    q(c) is judged by the mutual information I(x; c) and not by KL(q(c) || p(c)) alone, because I(x; c) is small in both
    kinds of collapse: all images in one class (the entropy term outweighs the labels), and the same probabilities for
    every image. The comparisons count NaN as collapsed.

    Args:
        evaluation: the evaluation of the model.
        method: how the model was trained.
    """
    found = []
    collapsed = [f for f in evaluation.factors if not f.information >= COLLAPSED_SHARE * f.prior_entropy]
    if collapsed:
        found.append(
            f"q(c) has collapsed: {'; '.join(map(_describe, collapsed))}. Make sure that "
            "optimiser.supervised_learning_rate is not below optimiser.learning_rate, lower objective.gamma_h, use "
            "more --labels, or try another --seed"
        )
    # The method classifier does not train z.
    if method != "classifier" and not evaluation.z_spread >= COLLAPSED_SPREAD:
        weight = "objective.gamma_z" if method == "partedvae" else "baseline.weight"
        found.append(
            f"z has collapsed: the standard deviation of its means over images is at most {evaluation.z_spread:.4f}; "
            f"lower optimiser.learning_rate or {weight}, or try another --seed"
        )
    if evaluation.images >= FEWEST_FOR_UNITS and not evaluation.dead_units <= DEAD_SHARE:
        found.append(
            f"{evaluation.dead_units:.0%} of the units of h are dead (they have the same value for every image): train "
            "again with model.leaky_slope=0.1, or a lower optimiser.learning_rate where it has that already"
        )
    return found


def _describe(factor: FactorEvaluation) -> str:
    name, share = factor.largest_share
    return (
        f"I(x; c) of {factor.name} is {factor.information:.3f} of {factor.prior_entropy:.2f} nats, "
        f"q(c = {name!r}) is {share:.0%}, KL(q(c) || p(c)) is {factor.kl_c:.2f}"
    )
