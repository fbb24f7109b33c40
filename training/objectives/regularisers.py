"""Two terms that part u from z where classes are small things: ours; the paper relies on capacity alone.

With several class variables the paper's objective can leave a class in z, where the decoder then reads it, and ignore
its u: glasses are a few pixels. `leakage` makes it dear for z to know a class; `exchange_loss` makes the decoder show
the class of u, whatever z is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from partedvae.training.distributed import Noise
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.partedvae import PartedVAE, Posterior

FEWEST_IMAGES = 3
"""A class with fewer images in a batch has no variance worth measuring."""


def leakage(
    z: Gaussian, probs: Float[Tensor, "batch classes"], images: int, mean: Callable[[Tensor], Tensor]
) -> Float[Tensor, ""]:
    """Return what z tells of a class: I(z; c) in nats, were each dimension of z Gaussian, on the whole and by class.

    The sum over dimensions of 0.5 (log v - sum_i p_i log v_i), where v is the variance of a dimension over the batch
    and v_i over the images of class i, drawn by q(z | x): zero where a class moves neither mean nor variance. Variances
    of few images come out small, and of a class's few images the smallest, as if each class were narrow; what is
    expected of that is taken off, or every dimension that tells images apart would pay for it.

    Args:
        z: q(z | x) of this rank's images.
        probs: q(c_k | x); no gradient goes through it, so that z gives way and not the class.
        images: of the whole batch.
        mean: takes a mean over ranks.
    """
    probs = probs.detach()
    share = mean(probs.mean(dim=0)).clamp(min=torch.finfo().tiny)
    # Kish's effective number of images of each class, since each image counts with its probability.
    effective = images * share.square() / mean(probs.square().mean(dim=0)).clamp(min=torch.finfo().tiny)
    enough = effective >= FEWEST_IMAGES
    everything, one = torch.ones_like(probs[:, :1]), torch.ones_like(share[:1])
    whole = _log_variances(z, everything, one, images * one, mean)
    by_class = _log_variances(z, probs, share, effective, mean)
    return 0.5 * ((share * enough).unsqueeze(1) * (whole - by_class)).sum()


def _log_variances(
    z: Gaussian,
    weights: Float[Tensor, "batch classes"],
    share: Float[Tensor, " classes"],
    effective: Float[Tensor, " classes"],
    mean: Callable[[Tensor], Tensor],
) -> Float[Tensor, "classes z_dim"]:
    """Return log v_i of each dimension, without what it is expected to lack for being taken over few images.

    Of n Gaussian means, the variance's log lacks log(n / 2) - psi((n - 1) / 2) on average. Where the images' own
    variances q(z | x), of which nothing is drawn, have a part in v_i, it lacks less: r of it by the mean and r^2 by the
    curvature of the log, for a share r of the means.
    """
    centre = mean(weights.T @ z.mean / len(weights)) / share.unsqueeze(1)
    of_means = mean(weights.T @ z.mean.square() / len(weights)) / share.unsqueeze(1) - centre.square()
    of_means = of_means.clamp(min=0.0)
    variance = (of_means + mean(weights.T @ z.logvar.exp() / len(weights)) / share.unsqueeze(1)).clamp(min=1e-4)
    # Of fewer it has no value; classes with so few are left out, and a batch of one image has no variance at all.
    effective = effective.clamp(min=FEWEST_IMAGES)
    lack = (effective / 2).log() - torch.digamma((effective - 1) / 2)
    part = of_means / variance
    return variance.log() + lack.unsqueeze(1) * (part + part.square()) / 2


def exchange_loss(model: PartedVAE, posterior: Posterior, noise: Noise) -> Float[Tensor, ""]:
    """Exchange one u_k of each image for a draw from a random class's prior; return how badly classes are seen then.

    The cross-entropy, in nats, of the classifier's q(c | x') for the decoded image x', summed over the class variables:
    the random class of the exchanged one, and of each other the class c' that its u was drawn for, which must not have
    changed. It trains the decoder, and the posterior of u to show its class. The classifier of x' is held fixed, or the
    two could agree on a sign of their own; so are the prior, which has the overlap to shape it, and z.
    """
    factors = list(model.class_factors())
    one_each = posterior.hidden[:, 0]
    even = one_each.new_full((len(factors),), 1 / len(factors))
    exchanged = _draw(even, noise.uniform(one_each))
    us, classes = [], []
    for k, (factor, q) in enumerate(zip(factors, posterior.factors, strict=True)):
        drawn = _draw(factor.prior_probs, noise.uniform(one_each))
        modes = factor.prior_modes()
        u = Gaussian(modes.mean[drawn], modes.logvar[drawn]).sample(noise).detach()
        here = exchanged == k
        us.append(torch.where(here.unsqueeze(1), u, q.u.sample(noise)))
        classes.append(torch.where(here, drawn, q.class_weights.argmax(dim=-1)))
    pixels = model.decoder(torch.cat(us, dim=-1), posterior.z.sample(noise).detach())
    hidden = _held_fixed(model.trunk, pixels)
    errors = [
        functional.cross_entropy(_held_fixed(factor.logits, hidden).float(), wanted)
        for factor, wanted in zip(factors, classes, strict=True)
    ]
    return torch.stack(errors).sum()


def _draw(probs: Float[Tensor, " classes"], uniform: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """Turn numbers from U(0, 1) into indices drawn with these probabilities."""
    return torch.searchsorted(probs.cumsum(dim=0), uniform).clamp(max=len(probs) - 1)


def _held_fixed(network: nn.Module, value: Tensor) -> Tensor:
    """Run a network whose parameters get no gradient from it."""
    fixed = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return functional_call(network, fixed, (value,))  # type: ignore[no-any-return]  # has no types
