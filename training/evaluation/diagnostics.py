"""Detection of collapsed models: a q(c) or a z that does not depend on the image."""

from __future__ import annotations

from partedvae.training.config.train_config import MethodName
from partedvae.training.evaluation.evaluation import Evaluation, FactorEvaluation

COLLAPSED_SHARE = 0.1
"""q(c | x) has collapsed when I(x; c) is below this share of H(p(c)); a successful MNIST run is above 0.9."""
COLLAPSED_SPREAD = 0.01
"""z has collapsed when no dimension's means have a larger standard deviation over images; that of the prior is 1."""


def collapse_warnings(evaluation: Evaluation, method: MethodName) -> list[str]:
    """Return one warning with a remedy for each latent that has collapsed.

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
    return found


def _describe(factor: FactorEvaluation) -> str:
    name, share = factor.largest_share
    return (
        f"I(x; c) of {factor.name} is {factor.information:.3f} of {factor.prior_entropy:.2f} nats, "
        f"q(c = {name!r}) is {share:.0%}, KL(q(c) || p(c)) is {factor.prior_mismatch:.2f}"
    )
