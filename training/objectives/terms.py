"""The terms of the objective (Eq. 6, generalised in A.5) and the supervised loss (Eq. 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from partedvae.training.config.schedules import z_weights
from partedvae.training.config.train_config import ObjectiveConfig
from partedvae.training.data.dataset import UNLABELLED
from partedvae.training.distributed import SINGLE_PROCESS, DistributedContext
from partedvae.training.model.class_factor import ClassFactor
from partedvae.training.model.distributions import (
    bhattacharyya_penalty,
    categorical_kl,
    entropy,
    kl_between,
    kl_of_dimensions,
    kl_to_modes,
)
from partedvae.training.model.partedvae import FactorPosterior, PartedVAE, Posterior


class Terms(NamedTuple):
    """The unweighted terms of Eq. 6, in nats."""

    reconstruction: Float[Tensor, ""]
    """-log p(x | u, z), summed over pixels, mean over the batch."""
    kl_z: Float[Tensor, "batch z_dim"]
    """KL(q(z | x) || p(z)) of each image and dimension."""
    kl_u: Float[Tensor, " batch"]
    """KL of u to its prior, summed over the class variables, of each image."""
    entropy: Float[Tensor, ""]
    """H(q(c | x)), summed over the class variables, mean over the batch."""
    kl_c: Float[Tensor, ""]
    """KL(q(c) || p(c)), summed over the class variables, with q(c) the mean posterior of the batch."""
    bhattacharyya: Float[Tensor, ""]
    """Penalty on the Bhattacharyya coefficients of the prior's modes, summed over the class variables."""


def elbo_terms(
    model: PartedVAE,
    pixels: Float[Tensor, "batch channels height width"],
    posterior: Posterior,
    config: ObjectiveConfig,
    slope: float,
    context: DistributedContext = SINGLE_PROCESS,
) -> Terms:
    """Sample u and z, decode, and return every term.

    Args:
        model: the networks and the mixture prior.
        pixels: the encoded images.
        posterior: posterior of the images, with relaxed classes.
        config: kind of reconstruction error, kind of KL, threshold of the Bhattacharyya coefficient.
        slope: steepness of the attention.
        context: the processes that share the batch; q(c) and the KLs are means over all of it.
    """
    noise = context.noise
    logits = model.decoder.logits(posterior.sample_u(noise), posterior.z.sample(noise))
    pairs = list(zip(model.class_factors(), posterior.factors, strict=True))
    return Terms(
        reconstruction=reconstruction_error(logits, pixels, config.reconstruction).mean(),
        kl_z=kl_of_dimensions(posterior.z),
        kl_u=_sum([kl_of_u(module, q, posterior.hidden, config.kl_u, slope) for module, q in pairs]),
        entropy=_sum([entropy(q.logits).mean() for _, q in pairs]),
        kl_c=_sum([categorical_kl(context.mean(q.probs.mean(dim=0)), module.prior_probs) for module, q in pairs]),
        bhattacharyya=_sum([bhattacharyya_penalty(module.prior_modes(), config.bc_threshold) for module, _ in pairs]),
    )


def reconstruction_error(
    logits: Float[Tensor, "batch channels height width"],
    pixels: Float[Tensor, "batch channels height width"],
    kind: str,
) -> Float[Tensor, " batch"]:
    """Return the reconstruction error of each image, summed over its pixels.

    Args:
        logits: output of the decoder before the sigmoid.
        pixels: the images.
        kind: "bce" (binary cross-entropy) or "l1" (absolute difference), as in Table 6.
    """
    if kind == "bce":
        error = functional.binary_cross_entropy_with_logits(logits, pixels, reduction="none")
    else:
        error = (torch.sigmoid(logits) - pixels).abs()
    return error.flatten(1).sum(dim=1)


def kl_of_u(
    module: ClassFactor, q: FactorPosterior, hidden: Float[Tensor, "batch hidden"], kind: str, slope: float
) -> Float[Tensor, " batch"]:
    """Return the KL of u_k to the mixture prior, in expectation over q(c_k | x), for each image.

    Args:
        module: module of the class variable.
        q: its posterior.
        hidden: h, the features of the images.
        kind: "sampled" compares q(u | c', x) of the one sampled c' with every mode, as the authors' code does;
            "matched" compares q(u | c = i, x) with p(u | c = i), as Eq. 2, which costs one u posterior per class.
        slope: steepness of the attention.
    """
    modes = module.prior_modes()
    if kind == "sampled":
        divergences = kl_to_modes(q.u, modes)
    else:
        one_hot = torch.eye(len(modes.mean), device=hidden.device)
        divergences = kl_between(module.u_posterior(hidden.unsqueeze(1), one_hot, slope), modes)
    return (q.probs * divergences).sum(dim=-1)


def total_loss(
    terms: Terms,
    config: ObjectiveConfig,
    capacity_z: float,
    capacity_u: float,
    context: DistributedContext = SINGLE_PROCESS,
    opened_z: float = math.inf,
) -> Float[Tensor, ""]:
    """Return the weighted sum of the terms: the negative of Eq. 6.

    Args:
        terms: the terms of this rank's images.
        config: the weights.
        capacity_z: C_z, in nats.
        capacity_u: C_u, in nats.
        context: the processes that share the batch; the mean KLs are those of all of it.
        opened_z: `Schedule.opened_z`.
    """
    return (
        terms.reconstruction
        + _beta_loss(terms.kl_z, opened_z, config)
        + capacity_loss(terms.kl_z.sum(dim=-1), capacity_z, config.gamma_z, config, context)
        + capacity_loss(terms.kl_u, capacity_u, config.gamma_u, config, context)
        + config.gamma_h * terms.entropy
        + config.gamma_c * terms.kl_c
        + config.gamma_bc * terms.bhattacharyya
    )


def capacity_loss(
    kl: Float[Tensor, " batch"],
    capacity: float,
    gamma: float,
    config: ObjectiveConfig,
    context: DistributedContext = SINGLE_PROCESS,
) -> Float[Tensor, ""]:
    """Return the weighted loss of a KL with capacity C, as `config.capacity_penalty` and `config.capacity_of` choose.

    gamma |KL - C| of Eq. 6, or KL + gamma max(KL - C, 0); of the mean KL of the batch, or its mean over images (as in
    section 4.3).

    Args:
        kl: KL of each image of this rank.
        capacity: C, in nats.
        gamma: the weight.
        config: kind of the loss.
        context: the processes that share the batch.
    """
    if config.capacity_of == "batch":
        kl = context.mean(kl.mean())
    if config.capacity_penalty == "hinge":
        return (kl + gamma * (kl - capacity).clamp(min=0)).mean()
    return gamma * (kl - capacity).abs().mean()


def _beta_loss(kl: Float[Tensor, "batch z_dim"], opened_z: float, config: ObjectiveConfig) -> Float[Tensor, ""]:
    """Return what the weights of the dimensions of z add to the KL of weight 1 that the hinge has."""
    added = [weight - 1 for weight in z_weights(opened_z, kl.shape[1], config)]
    if not any(added):
        return kl.new_zeros(())
    return (kl.mean(dim=0) * torch.tensor(added, device=kl.device)).sum()


def supervised_loss(
    logits: Sequence[Float[Tensor, "batch _"]],
    labels: Int[Tensor, "batch factors"],
    context: DistributedContext = SINGLE_PROCESS,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of Eq. 7, mean over the known labels, summed over the class variables.

    A class variable without a label in the batch contributes nothing.

    Args:
        logits: logits of each class variable.
        labels: class indices, one column per class variable; -1 where unknown.
        context: the processes that share the batch; labels are counted over all of it.
    """
    losses = []
    for k, factor_logits in enumerate(logits):
        known = context.mean((labels[:, k] != UNLABELLED).sum().float()).clamp(min=torch.finfo().tiny)
        total = functional.cross_entropy(factor_logits, labels[:, k], ignore_index=UNLABELLED, reduction="sum")
        losses.append(total / known)
    return _sum(losses)


def _sum(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum(dim=0)
