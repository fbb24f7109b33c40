"""Detection of models that do not keep the method's promises: collapsed latents, dead units, a class not in u."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from partedvae.training.config.train_config import MethodName, TrainConfig
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.evaluation.evaluation import Evaluation, FactorEvaluation, evaluate_classes
from partedvae.training.evaluation.intervals import wilson_interval
from partedvae.training.evaluation.measures import Measures
from partedvae.training.evaluation.metrics.generation import Generation
from partedvae.training.evaluation.metrics.probes import TEST_SHARE, Separation
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.data import labelled_images
from partedvae.training.runs.directory import RunDirectory

COLLAPSED_SHARE = 0.1
"""q(c | x) has collapsed when I(x; c) is below this share of H(p(c)); a successful MNIST run is above 0.9."""
COLLAPSED_SPREAD = 0.01
"""z has collapsed when no dimension's means have a larger standard deviation over images; that of the prior is 1."""
FEWEST_GENERATED = 0.8
"""Share of the images drawn for a class that must show it: below, more than one in five pictures that a user asks
for is wrong."""
FEWEST_OF_A_CLASS = 0.5
"""Share of the images drawn for a single class that must show it: below, most of them show another class."""

DEAD_SHARE = 0.5
"""Share of dead units of h above which the model has lost capacity: a ReLU that is never positive gets no gradient."""
FEWEST_FOR_UNITS = 50
"""Minimum number of images to call units dead; over a few images of few classes, many units are zero by chance."""


def model_warnings(model: PartedVAE, evaluation: Evaluation, run: RunDirectory, dataset: ImageDataset) -> list[str]:
    """Return all warnings of a run's model that need no measures of its latents.

    Args:
        model: the trained model, on any device.
        evaluation: its evaluation on test images.
        run: the run directory.
        dataset: its data set.
    """
    config, labelled = run.load_config(), labelled_images(run, dataset)
    # Without labels, u and not q(c) tells images apart in the recipe `features`.
    needs_classes = config.labels > 0 or not config.objective.gamma_contrast
    found = collapse_warnings(evaluation, config.method, needs_classes=needs_classes)
    if labelled is not None and config.model.factors:
        found += label_warnings(evaluate_classes(model, labelled, config, run.load_label_counts()), config)
    return found


def collapse_warnings(evaluation: Evaluation, method: MethodName, *, needs_classes: bool = True) -> list[str]:
    """Return one warning with a remedy for each latent that has collapsed, and for dead units of h.

    q(c) is judged by the mutual information I(x; c) and not by KL(q(c) || p(c)) alone, because I(x; c) is small in both
    kinds of collapse: all images in one class (the entropy term outweighs the labels), and the same probabilities for
    every image. The comparisons count NaN as collapsed.

    Args:
        evaluation: the evaluation of the model.
        method: how the model was trained.
        needs_classes: whether q(c) is to tell images apart.
    """
    found = []
    collapsed = [f for f in evaluation.factors if not f.information >= COLLAPSED_SHARE * f.prior_entropy]
    if collapsed and needs_classes:
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


def label_warnings(labelled: Sequence[FactorEvaluation], config: TrainConfig) -> list[str]:
    """Return one warning with a remedy where most labelled training images of a class are taken for another class.

    Labels are few: a class that training lost, or found wrongly, can stay so against them.

    Args:
        labelled: the evaluation of each factor on labelled training images.
        config: the run's configuration.
    """
    missed = [
        text
        for factor, spec in zip(labelled, config.model.factors, strict=True)
        for text in _missed_classes(factor, spec.classes)
    ]
    if not missed:
        return []
    weight = "a lower supervision.consistency_weight, " if config.supervision.consistency_weight else ""
    return [
        f"most labelled training images of some classes are taken for others: {'; '.join(missed)}. Check these labels; "
        f"if they are right, try another --seed, {weight}or more --labels"
    ]


def separation_warnings(evaluation: Evaluation, measures: Measures) -> list[str]:
    """Return a warning with its remedy where z predicts the class better than u, and where drawn images do not show it.

    Factors that were trained without labels are left out: their classes are clusters.

    Args:
        evaluation: the evaluation of the model.
        measures: the measures of the same model.
    """
    supervised = {factor.name for factor in evaluation.factors if factor.supervised}
    found = []
    misplaced = [s for s in measures.separations if s.factor in supervised and _is_in_z(s)]
    if misplaced:
        shares = "; ".join(
            f"a network predicts {s.factor} from z in {s.z.mlp:.1%} of {s.rows:,} images, from u in {s.u.mlp:.1%}"
            for s in misplaced
        )
        found.append(
            f"the class is in z rather than in u: {shares}. Raise objective.gamma_exchange or "
            "objective.gamma_adversary, lower objective.capacity_z, or train for more --epochs"
        )
    poor = [g for g in measures.generations if _is_poor(g)]
    if poor:
        found.append(
            f"images drawn for a class do not show it: {'; '.join(map(_describe_generation, poor))}. Raise "
            "objective.gamma_exchange, or train for more --epochs"
        )
    return found


def _is_poor(g: Generation) -> bool:
    """Return whether too few of the images drawn for all classes, or for one of them, show it.

    Relative to the oracle, which does not see every class of real images either.
    """
    if g.mean is None or g.worst is None:
        return False
    return not (g.mean >= FEWEST_GENERATED * g.oracle and g.worst[1] >= FEWEST_OF_A_CLASS * g.oracle)


def _is_in_z(s: Separation) -> bool:
    """Return whether a network predicts the class from z better than from u, by more than the chance of few images."""
    tested = s.rows if s.folds else round(TEST_SHARE * s.rows)
    (low, _), (_, high) = (wilson_interval(round(probe.mlp * tested), tested) for probe in (s.z, s.u))
    return low > high


def _missed_classes(factor: FactorEvaluation, classes: tuple[str, ...]) -> Iterator[str]:
    """Yield the classes of which more than half of the images are taken for others, and the most frequent of these."""
    for k, row in enumerate(factor.confusion):
        wrong = row.clone()
        wrong[k] = 0
        missed, images = int(wrong.sum()), int(row.sum())
        if 2 * missed > images:
            yield f"{factor.name} {classes[k]!r}, mostly for {classes[int(wrong.argmax())]!r} ({missed} of {images})"


def _describe_generation(g: Generation) -> str:
    assert g.worst is not None
    return f"{g.factor} is seen in {g.mean:.1%} of them, and {g.worst[0]!r} in {g.worst[1]:.1%}"


def _describe(factor: FactorEvaluation) -> str:
    name, share = factor.largest_share
    return (
        f"I(x; c) of {factor.name} is {factor.information:.3f} of {factor.prior_entropy:.2f} nats, "
        f"q(c = {name!r}) is {share:.0%}, KL(q(c) || p(c)) is {factor.kl_c:.2f}"
    )
