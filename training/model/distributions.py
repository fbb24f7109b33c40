"""Gaussian and categorical distributions, and the divergences of the objective, as pure functions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from partedvae.training.distributed import SINGLE_PROCESS, ShardedNoise


class Gaussian(NamedTuple):
    """A diagonal Gaussian, or a batch of diagonal Gaussians."""

    mean: Float[Tensor, "*batch dim"]
    """Means."""
    logvar: Float[Tensor, "*batch dim"]
    """Logarithms of the variances, in nats."""

    def sample(self, noise: ShardedNoise = SINGLE_PROCESS.noise) -> Float[Tensor, "*batch dim"]:
        """Sample with the reparameterisation trick (section 4.4); uses torch's global random state."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise.normal(self.mean)


def gumbel_softmax(
    logits: Float[Tensor, "batch classes"], temperature: float, noise: ShardedNoise
) -> Float[Tensor, "batch classes"]:
    """Sample relaxed one-hot vectors from a categorical distribution (Jang et al. 2017; Figure 2).

    Args:
        logits: unnormalised log-probabilities.
        temperature: at 0 the samples would be one-hot.
        noise: source of the Gumbel noise.
    """
    return torch.softmax((logits + noise.gumbel(logits)) / temperature, dim=-1)


def kl_to_standard(q: Gaussian) -> Float[Tensor, "*batch"]:
    """Return KL(q || N(0, I)) in nats, summed over dimensions: the last term of Eq. 2."""
    return kl_of_dimensions(q).sum(dim=-1)


def kl_of_dimensions(q: Gaussian) -> Float[Tensor, "*batch dim"]:
    """Return KL(q || N(0, 1)) of each dimension, in nats."""
    return 0.5 * (q.mean.square() + q.logvar.exp() - q.logvar - 1)


def kl_between(q: Gaussian, p: Gaussian) -> Float[Tensor, "*batch"]:
    """Return KL(q || p) of diagonal Gaussians in nats, summed over dimensions; q and p broadcast."""
    ratio = (q.logvar - p.logvar).exp()
    distance = (q.mean - p.mean).square() * (-p.logvar).exp()
    return 0.5 * (ratio + distance - 1 - (q.logvar - p.logvar)).sum(dim=-1)


def kl_to_modes(q: Gaussian, modes: Gaussian) -> Float[Tensor, "batch classes"]:
    """Return the KL of each q, [batch, dim], to each mode p(u | c = i), [classes, dim]."""
    each = Gaussian(q.mean.unsqueeze(-2), q.logvar.unsqueeze(-2))
    return kl_between(each, modes)


def entropy(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """Return H(q(c | x)) in nats, which Eq. 4 uses in place of term A of Eq. 3."""
    log_probs = torch.log_softmax(logits, dim=-1)
    return -(log_probs.exp() * log_probs).sum(dim=-1)


def categorical_kl(q: Float[Tensor, "*batch classes"], p: Float[Tensor, " classes"]) -> Float[Tensor, "*batch"]:
    """Return KL(q || p) of categorical distributions, in nats: term B of Eq. 3. A class with q = 0 adds nothing."""
    # torch.xlogy(q, q) has the same value, and a gradient of NaN at q = 0.
    return (q * q.clamp(min=torch.finfo(q.dtype).tiny).log() - q * p.log()).sum(dim=-1)


def bhattacharyya_coefficients(modes: Gaussian) -> Float[Tensor, "classes classes"]:
    """Return the Bhattacharyya coefficient, in [0, 1], of every pair of modes (section 3.2, appendix A.1)."""
    difference = modes.mean.unsqueeze(0) - modes.mean.unsqueeze(1)
    variance = modes.logvar.exp()
    average = 0.5 * (variance.unsqueeze(0) + variance.unsqueeze(1))
    log_geometric_mean = 0.5 * (modes.logvar.unsqueeze(0) + modes.logvar.unsqueeze(1))
    distance = 0.125 * difference.square() / average + 0.5 * (average.log() - log_geometric_mean)
    return torch.exp(-distance.sum(dim=-1))


def bhattacharyya_penalty(modes: Gaussian, threshold: float) -> Float[Tensor, ""]:
    """Return the sum of max(BC - threshold, 0) over the pairs of modes (Eq. 6).

    The paper's sum includes j = i, where BC is always 1: a constant. Like the authors' code, this one leaves it out.
    """
    first, second = torch.triu_indices(len(modes.mean), len(modes.mean), offset=1)
    return (bhattacharyya_coefficients(modes)[first, second] - threshold).clamp(min=0).sum()
