"""Gaussians, categoricals and the numbers that the objective is made of: pure functions, one idea each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from partedvae.training.distributed import ALONE, Noise


class Gaussian(NamedTuple):
    """A diagonal Gaussian, or a batch of them."""

    mean: Float[Tensor, "*batch dim"]
    """Means."""
    logvar: Float[Tensor, "*batch dim"]
    """Logarithms of the variances, in nats."""

    def sample(self, noise: Noise = ALONE) -> Float[Tensor, "*batch dim"]:
        """Draw by the reparameterisation trick (section 4.4); consumes torch's global random state."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise.normal(self.mean)


def kl_to_standard(q: Gaussian) -> Float[Tensor, "*batch"]:
    """KL(q || N(0, I)) in nats, summed over dimensions: the last term of Eq. 2."""
    return 0.5 * (q.mean.square() + q.logvar.exp() - q.logvar - 1).sum(dim=-1)


def kl_between(q: Gaussian, p: Gaussian) -> Float[Tensor, "*batch"]:
    """KL(q || p) of diagonal Gaussians in nats, summed over dimensions; q and p broadcast."""
    ratio = (q.logvar - p.logvar).exp()
    distance = (q.mean - p.mean).square() * (-p.logvar).exp()
    return 0.5 * (ratio + distance - 1 - (q.logvar - p.logvar)).sum(dim=-1)


def kl_to_modes(q: Gaussian, modes: Gaussian) -> Float[Tensor, "batch classes"]:
    """KL of each q, [batch, dim], to each mode p(u | c = i), [classes, dim]."""
    each = Gaussian(q.mean.unsqueeze(-2), q.logvar.unsqueeze(-2))
    return kl_between(each, modes)


def entropy(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """H(q(c | x)) in nats: Eq. 4's replacement for term A of Eq. 3."""
    log_probs = torch.log_softmax(logits, dim=-1)
    return -(log_probs.exp() * log_probs).sum(dim=-1)


def categorical_kl(q: Float[Tensor, "*batch classes"], p: Float[Tensor, " classes"]) -> Float[Tensor, "*batch"]:
    """KL(q || p) in nats of two categorical distributions: term B of Eq. 3. A class with q = 0 adds nothing."""
    return (torch.xlogy(q, q) - q * p.log()).sum(dim=-1)


def bhattacharyya_coefficients(modes: Gaussian) -> Float[Tensor, "classes classes"]:
    """Bhattacharyya coefficient, in [0, 1], of every pair of modes [classes, dim]: section 3.2 and appendix A.1."""
    difference = modes.mean.unsqueeze(0) - modes.mean.unsqueeze(1)
    variance = modes.logvar.exp()
    average = 0.5 * (variance.unsqueeze(0) + variance.unsqueeze(1))
    log_geometric_mean = 0.5 * (modes.logvar.unsqueeze(0) + modes.logvar.unsqueeze(1))
    distance = 0.125 * difference.square() / average + 0.5 * (average.log() - log_geometric_mean)
    return torch.exp(-distance.sum(dim=-1))


def overlap(modes: Gaussian, tolerance: float) -> Float[Tensor, ""]:
    """Sum of max(BC - tolerance, 0) over the pairs of modes (Eq. 6).

    The paper's sum begins at j = i, where BC is always 1: a constant. Like the authors' code, this one begins after it.
    """
    first, second = torch.triu_indices(len(modes.mean), len(modes.mean), offset=1)
    return (bhattacharyya_coefficients(modes)[first, second] - tolerance).clamp(min=0).sum()
