"""Evaluation of a model on a split: accuracy and confusion matrix per factor, and measures that show a collapse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, Images, Split
from partedvae.training.evaluation.intervals import format_accuracy
from partedvae.training.model.distributions import categorical_kl, kl_to_standard
from partedvae.training.model.networks import preprocess
from partedvae.training.model.partedvae import PartedVAE, Posterior
from partedvae.training.objectives.terms import reconstruction_error

BATCH = 500
"""Images per batch; affects only memory."""
DEAD_SPREAD = 0.01
"""A unit of h is dead when its standard deviation over images is at most this share of the largest of a unit.

A dead ReLU is exactly zero; in trained networks, the standard deviation of hardly any other unit is that small.
"""


@dataclass(frozen=True, kw_only=True)
class FactorEvaluation:
    """Evaluation of one class variable."""

    name: str
    """Name of the factor."""
    predictions: Int[Tensor, " images"]
    """Index of the most probable class of each image."""
    confusion: Int[Tensor, "classes classes"]
    """Labelled images by true class (rows) and predicted class (columns)."""
    information: float
    """I(x; c) under q in nats: H(q(c)) minus the mean H(q(c | x)); near zero when q(c | x) does not depend on x."""
    prior_entropy: float
    """H(p(c)) in nats: the value of I(x; c) when q(c) equals the prior and q(c | x) is certain."""
    kl_c: float
    """KL(q(c) || p(c)) in nats, over the whole split."""
    largest_share: tuple[str, float]
    """The most probable class under q(c), and its probability."""
    supervised: bool
    """Whether training had labels of the factor; without labels, classes are clusters in any order."""

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled images whose most probable class is the true one.

        None without labelled images, or if the factor was trained without labels.
        """
        return self.correct / self.labelled if self.labelled and self.supervised else None

    @property
    def labelled(self) -> int:
        """Number of labelled images."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Number of labelled images whose most probable class is the true one."""
        return int(self.confusion.diagonal().sum())


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Evaluation of a model on a split."""

    images: int
    """Number of images."""
    factors: tuple[FactorEvaluation, ...]
    """One entry per class variable."""
    reconstruction: float
    """Reconstruction error from the posterior means, summed over pixels, averaged over images."""
    kl_z: float
    """Mean KL(q(z | x) || p(z)) in nats."""
    z_spread: float
    """Largest standard deviation over images of a dimension of z's mean; near zero when z has collapsed."""
    z_variance: float
    """Mean variance of q(z | x), over images and dimensions; that of a dimension that carries nothing is 1."""
    u_variances: dict[str, float]
    """Mean variance of q(u | c, x) by factor, given the most probable class, over images and dimensions."""
    dead_units: float
    """Share of the units of h that have (nearly) the same value for every image."""

    @property
    def accuracies(self) -> dict[str, float]:
        """Accuracy by factor name, of the factors where it is defined."""
        return {factor.name: factor.accuracy for factor in self.factors if factor.accuracy is not None}

    @property
    def accuracy_texts(self) -> dict[str, str]:
        """Return the same as text; of few images with their number and an interval."""
        return {
            factor.name: format_accuracy(factor.correct, factor.labelled)
            for factor in self.factors
            if factor.accuracy is not None
        }


def posteriors(model: PartedVAE, images: Images, config: TrainConfig) -> Iterator[tuple[Tensor, Posterior]]:
    """Yield the pixels and the posterior of consecutive batches.

    The posterior is that of the most probable classes, with the final attention slope.

    Args:
        model: the trained model, on any device.
        images: uint8 images.
        config: the run's configuration.
    """
    device = next(model.parameters()).device
    for indices in torch.arange(len(images)).split(BATCH):
        pixels = preprocess(images[indices].to(device), config.model.network_size)
        with torch.no_grad():
            posterior = model.encode(pixels, slope=config.schedule.attention_slope)
        yield pixels, posterior


@torch.no_grad()
def evaluate(
    model: PartedVAE, split: Split, config: TrainConfig, label_counts: Mapping[str, int] | None = None
) -> Evaluation:
    """Evaluate a model on a split; the predicted class is argmax q(c | x).

    Args:
        model: the model.
        split: the images and their labels.
        config: the run's configuration.
        label_counts: number of training labels of each factor; None stands for `config.labels` of each.
    """
    probs: list[list[Tensor]] = [[] for _ in config.model.factors]
    errors, kls, z_means, z_variances, hidden = [], [], [], [], []
    u_variances: list[list[Tensor]] = [[] for _ in config.model.factors]
    for pixels, posterior in posteriors(model, split.images, config):
        for factor_probs, variances, factor in zip(probs, u_variances, posterior.factors, strict=True):
            factor_probs.append(factor.probs.cpu())
            variances.append(factor.u.logvar.exp())
        logits = model.decoder.logits(posterior.u_mean, posterior.z.mean)
        errors.append(reconstruction_error(logits, pixels, config.objective.reconstruction))
        kls.append(kl_to_standard(posterior.z))
        z_means.append(posterior.z.mean)
        z_variances.append(posterior.z.logvar.exp())
        hidden.append(posterior.hidden)
    return Evaluation(
        images=len(split),
        factors=_evaluate_factors([torch.cat(batches) for batches in probs], split, config, label_counts),
        reconstruction=torch.cat(errors).mean().item(),
        kl_z=torch.cat(kls).mean().item(),
        z_spread=torch.cat(z_means).std(dim=0).max().item(),
        z_variance=torch.cat(z_variances).mean().item(),
        u_variances={
            factor.name: torch.cat(variances).mean().item()
            for factor, variances in zip(config.model.factors, u_variances, strict=True)
        },
        dead_units=share_of_dead_units(torch.cat(hidden)),
    )


@torch.no_grad()
def evaluate_classes(
    model: PartedVAE, split: Split, config: TrainConfig, label_counts: Mapping[str, int] | None = None
) -> tuple[FactorEvaluation, ...]:
    """Evaluate only the predicted classes of a model, without latents and decoder.

    Args:
        model: the model.
        split: the images and their labels.
        config: the run's configuration.
        label_counts: number of training labels of each factor; None stands for `config.labels` of each.
    """
    device = next(model.parameters()).device
    batches = [
        model.class_logits(preprocess(split.images[indices].to(device), config.model.network_size))
        for indices in torch.arange(len(split)).split(BATCH)
    ]
    probs = [torch.cat(logits).softmax(dim=-1).cpu() for logits in zip(*batches, strict=True)]
    return _evaluate_factors(probs, split, config, label_counts)


def _evaluate_factors(
    probs: Sequence[Float[Tensor, "images _"]],
    split: Split,
    config: TrainConfig,
    label_counts: Mapping[str, int] | None,
) -> tuple[FactorEvaluation, ...]:
    """Evaluate the predictions of every factor."""
    return tuple(
        evaluate_factor(
            factor.name,
            factor.classes,
            torch.tensor(factor.prior),
            factor_probs,
            split.labels[:, k],
            (config.labels if label_counts is None else label_counts[factor.name]) > 0,
        )
        for k, (factor, factor_probs) in enumerate(zip(config.model.factors, probs, strict=True))
    )


def share_of_dead_units(hidden: Float[Tensor, "images hidden"]) -> float:
    """Return the share of units of h that have (nearly) the same value for every image; NaN counts as such."""
    spread = hidden.std(dim=0, correction=0)
    return (~(spread > DEAD_SPREAD * spread.max())).float().mean().item()


def evaluate_factor(
    name: str,
    classes: tuple[str, ...],
    prior: Float[Tensor, " classes"],
    probs: Float[Tensor, "images classes"],
    labels: Int[Tensor, " images"],
    supervised: bool,
) -> FactorEvaluation:
    """Evaluate the predictions of one factor.

    Args:
        name: name of the factor.
        classes: names of its classes.
        prior: p(c).
        probs: q(c | x) of each image.
        labels: true class of each image, -1 where not labelled.
        supervised: whether training had labels of the factor.
    """
    predictions = probs.argmax(dim=1)
    known = labels != UNLABELLED
    pairs = labels[known] * len(classes) + predictions[known]
    confusion = torch.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), len(classes))
    aggregate = probs.mean(dim=0)
    share, largest = aggregate.max(dim=0)
    mean_entropy = -torch.xlogy(probs, probs).sum(dim=1).mean()
    return FactorEvaluation(
        name=name,
        predictions=predictions,
        confusion=confusion,
        information=(-torch.xlogy(aggregate, aggregate).sum() - mean_entropy).item(),
        prior_entropy=-torch.xlogy(prior, prior).sum().item(),
        kl_c=categorical_kl(aggregate, prior).item(),
        largest_share=(classes[int(largest)], share.item()),
        supervised=supervised,
    )
