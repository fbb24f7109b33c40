"""The module of one class variable: classifier head, attention, u head, and the mixture prior p(u | c) (section 4)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from partedvae.training.config.architecture import FactorConfig, ModelConfig
from partedvae.training.model.distributions import Gaussian


class ClassFactor(nn.Module):
    """The module of one class variable c_k: logits, attention, u head, and the mixture prior psi_k."""

    prior_probs: Tensor

    def __init__(self, config: FactorConfig, model: ModelConfig) -> None:
        """Create the module.

        Args:
            config: the class variable.
            model: the model that it is a part of.
        """
        super().__init__()
        hidden_dim, factors = model.hidden_dim, model.factors
        self.config = config
        classes = len(config.classes)
        self.logits = nn.Linear(hidden_dim, classes)
        self.attention = nn.Linear(classes, hidden_dim)
        self.u_head = nn.Linear(hidden_dim, 2 * config.u_dim)
        self.prior_mean = nn.Parameter(torch.randn(classes, config.u_dim))
        self.prior_raw_logvar = nn.Parameter(torch.randn(classes, config.u_dim))
        if model.prior_spacing:
            self._space_out(model.prior_spacing)
        # As in the authors' code, where the attention and the u heads of all class variables are one masked layer.
        _initialise_as_part_of(self.attention, sum(len(factor.classes) for factor in factors))
        _initialise_as_part_of(self.u_head, hidden_dim * len(factors))
        self.register_buffer("prior_probs", torch.tensor(config.prior), persistent=False)

    def _space_out(self, spacing: float) -> None:
        """Place the modes at equal distances in class order, as modes cannot pass each other during training."""
        classes = len(self.config.classes)
        with torch.no_grad():
            self.prior_mean[:, 0] = spacing * (torch.arange(classes) - (classes - 1) / 2)
            self.prior_raw_logvar[:, 0] = 0.0

    def prior_modes(self) -> Gaussian:
        """Return p(u | c = i) of every class i, [classes, u_dim]; log-variances are in (-3, 1) (the authors' bound)."""
        return Gaussian(self.prior_mean, 2 * torch.tanh(self.prior_raw_logvar) - 1)

    def u_posterior(
        self, hidden: Float[Tensor, "*batch hidden"], class_weights: Float[Tensor, "*any classes"], slope: float
    ) -> Gaussian:
        """Return q(u | c, x) for classes given as one-hot or relaxed vectors (section 4.4).

        Args:
            hidden: h; its leading dimensions and those of class_weights broadcast.
            class_weights: c'; its rows sum to one.
            slope: steepness of the attention.
        """
        gate = torch.sigmoid(slope * self.attention(class_weights))
        mean, logvar = self.u_head(hidden * gate).float().chunk(2, dim=-1)
        return Gaussian(mean, logvar)


def _initialise_as_part_of(layer: nn.Linear, inputs: int) -> None:
    """Scale initial weights and biases, uniform within 1 / sqrt(in_features), to those of a layer with more inputs."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_((layer.in_features / inputs) ** 0.5)
