"""Terms that are not in the paper: consistency, which gains more from few labels, and those that separate u from z.

With several class variables, the paper's objective can encode a class in z, from which the decoder then reads it, and
ignore its u: glasses are a few pixels. `leakage` penalises the information of z about a class; `class_error` trains the
decoder to show the class of u for any z, and `cycle_error` the encoder to find the same z for any u.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from partedvae.training.distributed import SINGLE_PROCESS, DistributedContext, ShardedNoise
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.partedvae import PartedVAE, Posterior

EXCHANGED_SHARE = 0.5
"""Images decoded for `exchange`, as a share of the batch."""
FEWEST_IMAGES = 3
"""The variance of a class with fewer images in a batch is not estimated."""


def leakage(
    z: Gaussian, probs: Float[Tensor, "batch classes"], context: DistributedContext = SINGLE_PROCESS
) -> Float[Tensor, ""]:
    """Return I(z; c) in nats, taking each dimension of z as Gaussian, over all images and within each class.

    The sum over dimensions of 0.5 (log v - sum_i p_i log v_i), where v is the variance of a dimension over the batch
    and v_i over the images of class i, sampled from q(z | x): zero where a class changes neither mean nor variance.
    Variances estimated from few images are biased downwards, most of all those of a rare class, so that each class
    would seem narrow. The expected bias is subtracted; otherwise every dimension that separates images would be
    penalised.

    Args:
        z: q(z | x) of this rank's images.
        probs: q(c_k | x); no gradient flows through it, so that z changes and the class does not.
        context: the processes that share the batch.
    """
    probs, mean = probs.detach(), context.mean
    share = mean(probs.mean(dim=0)).clamp(min=torch.finfo().tiny)
    # Kish's effective sample size of each class, as each image is weighted by its probability.
    images = context.world_size * len(probs)
    effective = images * share.square() / mean(probs.square().mean(dim=0)).clamp(min=torch.finfo().tiny)
    enough = effective >= FEWEST_IMAGES
    ones, one = torch.ones_like(probs[:, :1]), torch.ones_like(share[:1])
    # With mixed precision the products would be rounded to bfloat16, and a variance is a small difference of two.
    with torch.autocast(probs.device.type, enabled=False):
        overall = _log_variances(z, ones, one, images * one, context)
        by_class = _log_variances(z, probs, share, effective, context)
    return 0.5 * ((share * enough).unsqueeze(1) * (overall - by_class)).sum()


def _log_variances(
    z: Gaussian,
    weights: Float[Tensor, "batch classes"],
    share: Float[Tensor, " classes"],
    effective: Float[Tensor, " classes"],
    context: DistributedContext,
) -> Float[Tensor, "classes z_dim"]:
    """Return log v_i of each dimension, corrected for the bias of a variance of few images.

    The log of the variance of n Gaussian means is too small by log(n / 2) - psi((n - 1) / 2) on average. The variances
    of q(z | x) itself, which are not sampled, reduce the bias of their sum v_i: with a share r of v_i due to the means,
    it is r of that by the mean and r^2 by the curvature of the log.

    Args:
        z: q(z | x) of this rank's images.
        weights: weight of each image in each class.
        share: mean weight of each class over the batch.
        effective: effective number of images of each class.
        context: the processes that share the batch.
    """
    mean = context.mean
    centre = mean(weights.T @ z.mean / len(weights)) / share.unsqueeze(1)
    of_means = mean(weights.T @ z.mean.square() / len(weights)) / share.unsqueeze(1) - centre.square()
    of_means = of_means.clamp(min=0.0)
    variance = (of_means + mean(weights.T @ z.logvar.exp() / len(weights)) / share.unsqueeze(1)).clamp(min=1e-4)
    # The bias is undefined for fewer; such classes are left out, and a batch of one image has no variance.
    effective = effective.clamp(min=FEWEST_IMAGES)
    bias = (effective / 2).log() - torch.digamma((effective - 1) / 2)
    part = of_means / variance
    return variance.log() + bias.unsqueeze(1) * (part + part.square()) / 2


class Exchanged(NamedTuple):
    """Images decoded from samples of z, each with two u that are not its own."""

    pixels: Float[Tensor, "images channels height width"]
    """The images; those of the second half have the z of the first."""
    classes: tuple[Int[Tensor, " images"], ...]
    """Class of each u_k."""


def exchange(model: PartedVAE, posterior: Posterior, noise: ShardedNoise = SINGLE_PROCESS.noise) -> Exchanged:
    """Decode a part of a batch again with other u, and samples of the priors.

    A half of the z are samples of q(z | x); one u_k of such an image is replaced by a sample of its prior, and the
    others stay. The other half are samples of p(z), with every u_k from its prior, as in generation.

    Args:
        model: the networks.
        posterior: posterior of the batch, with relaxed classes. No gradient flows into z and the prior.
        noise: source of random numbers.
    """
    count = max(2, int(EXCHANGED_SHARE * len(posterior.z.mean)) // 2)
    own = posterior.z.sample(noise)[:count].detach()
    count = len(own)
    is_own = torch.arange(count, device=own.device) < (count + 1) // 2
    z = torch.where(is_own.unsqueeze(1), own, noise.normal(own))
    first, second = (_exchange_u(model, posterior, is_own, noise) for _ in range(2))
    pixels = model.decoder(torch.cat([first[0], second[0]]), torch.cat([z, z]))
    return Exchanged(pixels, tuple(torch.cat(classes) for classes in zip(first[1], second[1], strict=True)))


def _exchange_u(
    model: PartedVAE, posterior: Posterior, is_own: Bool[Tensor, " images"], noise: ShardedNoise
) -> tuple[Float[Tensor, "images u_dim"], list[Int[Tensor, " images"]]]:
    """Return u and its classes: with one u_k replaced for images with their own z, and all of them for the others."""
    # In full precision, also where the networks are not.
    count, like = len(is_own), posterior.z.mean[: len(is_own), 0]
    equal = like.new_full((len(posterior.factors),), 1 / len(posterior.factors))
    chosen = _sample_indices(equal, noise.uniform(like))
    us, classes = [], []
    for k, (factor, q) in enumerate(zip(model.class_factors(), posterior.factors, strict=True)):
        sampled = _sample_indices(factor.prior_probs, noise.uniform(like))
        modes = factor.prior_modes()
        drawn = Gaussian(modes.mean[sampled], modes.logvar[sampled]).sample(noise).detach()
        replaced = (chosen == k) | ~is_own
        kept = Gaussian(q.u.mean[:count], q.u.logvar[:count]).sample(noise)
        us.append(torch.where(replaced.unsqueeze(1), drawn, kept))
        classes.append(torch.where(replaced, sampled, q.class_weights[:count].argmax(dim=-1)))
    return torch.cat(us, dim=-1), classes


def class_error(model: PartedVAE, exchanged: Exchanged) -> Float[Tensor, ""]:
    """Return the classification error of decoded images: the decoder must show the class of u, for any z.

    The cross-entropy, in nats, of the classifier's q(c | x') for the decoded image x', summed over the class variables.
    It trains the decoder, and the posterior of u to show its class. The classifier is held fixed, as otherwise the two
    could agree on a code of their own.

    Args:
        model: the networks.
        exchanged: the decoded images.
    """
    hidden = with_fixed_parameters(model.trunk, exchanged.pixels)
    errors = [
        functional.cross_entropy(with_fixed_parameters(factor.logits, hidden).float(), classes)
        for factor, classes in zip(model.class_factors(), exchanged.classes, strict=True)
    ]
    return torch.stack(errors).sum()


def cycle_error(model: PartedVAE, exchanged: Exchanged) -> Float[Tensor, ""]:
    """Return how much the encoder's z changes between two images that were decoded from one z (Jha et al. 2018).

    The squared distance of the means of q(z | x') in units of its variances, summed over dimensions, averaged over
    pairs. It trains the encoder alone: z must not follow what u changes in an image. Distances in pixels or in z itself
    could be reduced by shrinking z.

    Args:
        model: the networks.
        exchanged: the decoded images, in pairs with one z.
    """
    mean, logvar = model.z_head(model.trunk(exchanged.pixels.detach())).float().chunk(2, dim=-1)
    first, second = mean.chunk(2)
    variance = torch.stack(logvar.detach().exp().chunk(2)).sum(dim=0)
    distance: Tensor = ((first - second).square() / variance).sum(dim=-1).mean()
    return distance


def _sample_indices(probs: Float[Tensor, " classes"], uniform: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """Convert samples of U(0, 1) to indices with these probabilities."""
    return torch.searchsorted(probs.cumsum(dim=0), uniform).clamp(max=len(probs) - 1)


def with_fixed_parameters(network: nn.Module, value: Tensor) -> Tensor:
    """Run a network without gradients of its parameters."""
    fixed = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return functional_call(network, fixed, (value,))  # type: ignore[no-any-return]  # has no types


def consistency_loss(
    teacher_logits: Sequence[Float[Tensor, "batch _"]],
    student_logits: Sequence[Float[Tensor, "batch _"]],
    threshold: float,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of the student on augmented images against the teacher's confident classes.

    The pseudo-labels of FixMatch (Sohn et al. 2020). Not in the paper; the recipe `default` uses it to gain more from
    few labels. The mean is over all images, those without a pseudo-label included.

    Args:
        teacher_logits: logits of the original images, by class variable.
        student_logits: logits of the augmented images, by class variable.
        threshold: probability that a class must exceed to be a pseudo-label.
    """
    losses = []
    for teacher, student in zip(teacher_logits, student_logits, strict=True):
        confidence, pseudo_labels = torch.softmax(teacher.detach(), dim=-1).max(dim=-1)
        error = functional.cross_entropy(student, pseudo_labels, reduction="none")
        losses.append((error * (confidence > threshold)).mean())
    return torch.stack(losses).sum(dim=0)
