"""PartedVAE: q(c, u, z | x) and p(x | u, z), for any number of class variables (section 4, A.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from partedvae.training.config.architecture import ModelConfig
from partedvae.training.distributed import SINGLE_PROCESS, ShardedNoise
from partedvae.training.model.class_factor import ClassFactor
from partedvae.training.model.distributions import Gaussian, gumbel_softmax
from partedvae.training.model.networks import Decoder, EncoderTrunk


class FactorPosterior(NamedTuple):
    """q(c_k | x) and q(u_k | c_k, x) for a batch."""

    logits: Float[Tensor, "batch classes"]
    """Logits of q(c_k | x)."""
    class_weights: Float[Tensor, "batch classes"]
    """c': a Gumbel-softmax sample in training, the one-hot argmax otherwise."""
    u: Gaussian
    """q(u_k | c', x), [batch, u_dim]."""

    @property
    def probs(self) -> Float[Tensor, "batch classes"]:
        """q(c_k | x)."""
        return torch.softmax(self.logits, dim=-1)


class Posterior(NamedTuple):
    """q(c, u, z | x) for a batch."""

    hidden: Float[Tensor, "batch hidden"]
    """h."""
    factors: tuple[FactorPosterior, ...]
    """Posteriors of the class variables."""
    z: Gaussian
    """q(z | x), [batch, z_dim]."""

    @property
    def u_mean(self) -> Float[Tensor, "batch u_dim"]:
        """The class-related features: the concatenated means of all u_k."""
        return torch.cat([self.hidden[:, :0], *(factor.u.mean for factor in self.factors)], dim=-1)

    def sample_u(self, noise: ShardedNoise = SINGLE_PROCESS.noise) -> Float[Tensor, "batch u_dim"]:
        """Return concatenated samples of all u_k."""
        return torch.cat([self.hidden[:, :0], *(factor.u.sample(noise) for factor in self.factors)], dim=-1)


class PartedVAE(nn.Module):
    """The complete model. Calls do not change its state; scheduled values are arguments."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = EncoderTrunk(config)
        self.factors = nn.ModuleList(ClassFactor(factor, config) for factor in config.factors)
        self.z_head = nn.Linear(config.hidden_dim, 2 * config.z_dim)
        self.decoder = Decoder(config)

    def class_factors(self) -> Iterator[ClassFactor]:
        """Iterate over the class variables' modules."""
        for factor in self.factors:
            assert isinstance(factor, ClassFactor)
            yield factor

    def class_logits(
        self, pixels: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch _"], ...]:
        """Return the logits of every q(c_k | x), for the supervised step."""
        hidden = self.trunk(pixels)
        return tuple(factor.logits(hidden).float() for factor in self.class_factors())

    def encode(
        self,
        pixels: Float[Tensor, "batch channels height width"],
        *,
        slope: float,
        temperature: float | None = None,
        noise: ShardedNoise = SINGLE_PROCESS.noise,
    ) -> Posterior:
        """Return the posterior.

        Args:
            pixels: images in [0, 1] at the network's size.
            slope: steepness of the attention.
            temperature: temperature of the Gumbel-softmax that samples c' (training, Figure 2); None selects the most
                probable class.
            noise: source of the Gumbel noise.
        """
        hidden = self.trunk(pixels)
        posteriors = []
        for factor in self.class_factors():
            # With mixed precision the networks return bfloat16; sampling and sums are in full precision.
            logits = factor.logits(hidden).float()
            if temperature is None:
                weights = functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
            else:
                weights = gumbel_softmax(logits, temperature, noise)
            posteriors.append(FactorPosterior(logits, weights, factor.u_posterior(hidden, weights, slope)))
        mean, logvar = self.z_head(hidden).float().chunk(2, dim=-1)
        return Posterior(hidden, tuple(posteriors), Gaussian(mean, logvar))

    def classifier_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the supervised step: the trunk and the heads of c (section 4.5)."""
        heads = [parameter for factor in self.class_factors() for parameter in factor.logits.parameters()]
        return [*self.trunk.parameters(), *heads]

    def prior_parameters(self) -> list[nn.Parameter]:
        """Return psi: means and log-variances of the mixture priors."""
        return [p for factor in self.class_factors() for p in (factor.prior_mean, factor.prior_raw_logvar)]

    def network_parameters(self) -> list[nn.Parameter]:
        """Return all parameters except psi."""
        prior = {id(parameter) for parameter in self.prior_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in prior]
