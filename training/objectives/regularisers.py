"""Terms that are not in the paper: consistency, which gains more from few labels, and two that separate u from z.

With several class variables, the paper's objective can encode a class in z, from which the decoder then reads it, and
ignore its u: glasses are a few pixels. `leakage` penalises the information of z about a class; `exchange_loss` trains
the decoder to show the class of u for any z.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from partedvae.training.distributed import SINGLE_PROCESS, DistributedContext, ShardedNoise
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.partedvae import PartedVAE, Posterior

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


def exchange_loss(
    model: PartedVAE, posterior: Posterior, noise: ShardedNoise = SINGLE_PROCESS.noise
) -> Float[Tensor, ""]:
    """Replace one u_k of each image by a sample of the prior, and return the classification error of the decoded image.

    The cross-entropy, in nats, of the classifier's q(c | x') for the decoded image x', summed over the class variables.
    The target of the replaced variable is the class that its u was sampled for; that of every other variable is the
    class c' of the image, which must not change. It trains the decoder, and the posterior of u to show its class. The
    classifier of x' is held fixed, as otherwise the two could agree on a code of their own; so are z and the prior,
    which the Bhattacharyya term shapes.

    Args:
        model: the networks.
        posterior: posterior of the batch, with relaxed classes.
        noise: source of random numbers.
    """
    factors = list(model.class_factors())
    like = posterior.z.mean[:, 0]  # not h, which has 16 bits with mixed precision
    equal = like.new_full((len(factors),), 1 / len(factors))
    exchanged = _sample_indices(equal, noise.uniform(like))
    us, targets = [], []
    for k, (factor, q) in enumerate(zip(factors, posterior.factors, strict=True)):
        sampled = _sample_indices(factor.prior_probs, noise.uniform(like))
        modes = factor.prior_modes()
        u = Gaussian(modes.mean[sampled], modes.logvar[sampled]).sample(noise).detach()
        replaced = exchanged == k
        us.append(torch.where(replaced.unsqueeze(1), u, q.u.sample(noise)))
        targets.append(torch.where(replaced, sampled, q.class_weights.argmax(dim=-1)))
    pixels = model.decoder(torch.cat(us, dim=-1), posterior.z.sample(noise).detach())
    hidden = _with_fixed_parameters(model.trunk, pixels)
    errors = [
        functional.cross_entropy(_with_fixed_parameters(factor.logits, hidden).float(), target)
        for factor, target in zip(factors, targets, strict=True)
    ]
    return torch.stack(errors).sum()


def _sample_indices(probs: Float[Tensor, " classes"], uniform: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """Convert samples of U(0, 1) to indices with these probabilities."""
    return torch.searchsorted(probs.cumsum(dim=0), uniform).clamp(max=len(probs) - 1)


def _with_fixed_parameters(network: nn.Module, value: Tensor) -> Tensor:
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
