"""The objective (Eq. 6, generalised in A.5) term by term, and the supervised loss (Eq. 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from partedvae.training.config.train_config import ObjectiveConfig
from partedvae.training.data.dataset import UNLABELLED
from partedvae.training.distributed import ALONE, Ranks
from partedvae.training.model.distributions import (
    categorical_kl,
    entropy,
    kl_between,
    kl_to_modes,
    kl_to_standard,
    overlap,
)
from partedvae.training.model.networks import ClassFactor
from partedvae.training.model.partedvae import FactorPosterior, PartedVAE, Posterior


class Terms(NamedTuple):
    """The terms of Eq. 6 before their weights, in nats."""

    reconstruction: Float[Tensor, ""]
    """-log p(x | u, z), summed over pixels, mean over the batch."""
    kl_z: Float[Tensor, " batch"]
    """KL(q(z | x) || p(z)) of each image."""
    kl_u: Float[Tensor, " batch"]
    """KL of u to its prior, summed over the class variables, of each image."""
    entropy: Float[Tensor, ""]
    """H(q(c | x)), summed over the class variables, mean over the batch."""
    prior_mismatch: Float[Tensor, ""]
    """KL(q(c) || p(c)), summed over the class variables, with q(c) the mean posterior of the batch."""
    overlap: Float[Tensor, ""]
    """Overlap of the prior's modes, summed over the class variables."""


def elbo_terms(
    model: PartedVAE,
    pixels: Float[Tensor, "batch channels height width"],
    posterior: Posterior,
    config: ObjectiveConfig,
    slope: float,
    ranks: Ranks | None = None,
) -> Terms:
    """Draw u and z, decode, and return every term.

    Args:
        model: the networks and the mixture prior.
        pixels: the images that were encoded.
        posterior: what they were encoded to, with relaxed classes.
        config: tolerance, kind of reconstruction error, kind of KL.
        slope: the attention's steepness.
        ranks: the processes that share the batch: q(c) and the KLs are means over all of it; None where there is one.
    """
    noise, mean = (ranks.noise, ranks.mean) if ranks else (ALONE, _same)
    logits = model.decoder.logits(posterior.sample_u(noise), posterior.z.sample(noise))
    pairs = list(zip(model.class_factors(), posterior.factors, strict=True))
    mismatches = [categorical_kl(mean(q.probs.mean(dim=0)), module.prior_probs) for module, q in pairs]
    return Terms(
        reconstruction=reconstruction_error(logits, pixels, config.reconstruction).mean(),
        kl_z=kl_to_standard(posterior.z),
        kl_u=_sum([kl_of_u(module, q, posterior.hidden, config.kl_u, slope) for module, q in pairs]),
        entropy=_sum([entropy(q.logits).mean() for _, q in pairs]),
        prior_mismatch=_sum(mismatches),
        overlap=_sum([overlap(module.prior_modes(), config.overlap_tolerance) for module, _ in pairs]),
    )


def reconstruction_error(
    logits: Float[Tensor, "batch channels height width"],
    pixels: Float[Tensor, "batch channels height width"],
    kind: str,
) -> Float[Tensor, " batch"]:
    """Return the error of each image, summed over its pixels: "bce" or "l1" (Table 6)."""
    if kind == "bce":
        error = functional.binary_cross_entropy_with_logits(logits, pixels, reduction="none")
    else:
        error = (torch.sigmoid(logits) - pixels).abs()
    return error.flatten(1).sum(dim=1)


def kl_of_u(
    module: ClassFactor, q: FactorPosterior, hidden: Float[Tensor, "batch hidden"], kind: str, slope: float
) -> Float[Tensor, " batch"]:
    """Return the KL of u_k to the mixture prior, expected over q(c_k | x), for each image.

    "sampled" holds q(u | c', x) of the one drawn c' against every mode, as the authors' code does; "matched" pairs
    q(u | c = i, x) with p(u | c = i), as Eq. 2 writes it, at the price of one u posterior a class.
    """
    modes = module.prior_modes()
    if kind == "sampled":
        divergences = kl_to_modes(q.u, modes)
    else:
        one_hot = torch.eye(len(modes.mean), device=hidden.device)
        divergences = kl_between(module.u_posterior(hidden.unsqueeze(1), one_hot, slope), modes)
    return (q.probs * divergences).sum(dim=-1)


def total_loss(
    terms: Terms, config: ObjectiveConfig, capacity_z: float, capacity_u: float, ranks: Ranks | None = None
) -> Float[Tensor, ""]:
    """Weigh the terms: the negative of Eq. 6. With `ranks`, the mean KLs are those of the whole batch."""
    mean = ranks.mean if ranks else _same
    return (
        terms.reconstruction
        + config.gamma_z * capacity_gap(terms.kl_z, capacity_z, config.capacity_of, mean)
        + config.gamma_u * capacity_gap(terms.kl_u, capacity_u, config.capacity_of, mean)
        + config.gamma_h * terms.entropy
        + config.gamma_c * terms.prior_mismatch
        + config.gamma_bc * terms.overlap
    )


def capacity_gap(
    kl: Float[Tensor, " batch"], capacity: float, of: str, mean: Callable[[Tensor], Tensor]
) -> Float[Tensor, ""]:
    """|KL - C| of the batch's mean KL ("batch"), or the mean over images of |KL - C| ("image", as in section 4.3).

    Args:
        kl: of each image of this rank.
        capacity: C, in nats.
        of: "batch" or "image".
        mean: takes a mean over ranks.
    """
    if of == "batch":
        return (mean(kl.mean()) - capacity).abs()
    return (kl - capacity).abs().mean()


def supervised_loss(
    logits: Sequence[Float[Tensor, "batch _"]], labels: Int[Tensor, "batch factors"], ranks: Ranks | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy of Eq. 7 over the labels that are there (-1 is none), summed over the class variables.

    A class variable without any label in the batch adds nothing. With `ranks`, the labels are counted over all of them.
    """
    mean = ranks.mean if ranks else _same
    losses = []
    for k, factor_logits in enumerate(logits):
        known = mean((labels[:, k] != UNLABELLED).sum().float()).clamp(min=torch.finfo().tiny)
        total = functional.cross_entropy(factor_logits, labels[:, k], ignore_index=UNLABELLED, reduction="sum")
        losses.append(total / known)
    return _sum(losses)


def consistency_loss(
    teacher_logits: Sequence[Float[Tensor, "batch _"]],
    student_logits: Sequence[Float[Tensor, "batch _"]],
    threshold: float,
) -> Float[Tensor, ""]:
    """Cross-entropy of the student on augmented images against the teacher's confident classes on the clean ones.

    The pseudo-labels of FixMatch (Sohn et al. 2020). Not in the paper: it is how `default` gets more from few labels.
    Images whose best probability is at or below the threshold add nothing; the mean is over all images.
    """
    losses = []
    for teacher, student in zip(teacher_logits, student_logits, strict=True):
        confidence, pseudo_labels = torch.softmax(teacher.detach(), dim=-1).max(dim=-1)
        error = functional.cross_entropy(student, pseudo_labels, reduction="none")
        losses.append((error * (confidence > threshold)).mean())
    return _sum(losses)


def _same(value: Tensor) -> Tensor:
    """Take the mean over one rank."""
    return value


def _sum(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum(dim=0)
