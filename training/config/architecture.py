"""Configuration of the networks (a column of the paper's Tables 3 to 5) and of the class variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from partedvae.training.config.validation import require, require_choice

PRIOR_TOLERANCE = 1e-4
"""Largest accepted deviation of the sum of a class prior from one."""


@dataclass(frozen=True, kw_only=True)
class FactorConfig:
    """One class variable c_k (paper section 4.6)."""

    name: str
    """Name of the factor, such as "digit" for MNIST."""
    classes: tuple[str, ...]
    """Names of its classes."""
    prior: tuple[float, ...]
    """p(c_k), one value per class."""
    u_dim: int
    """Dimensions of u_k."""

    def __post_init__(self) -> None:
        """Validate the values."""
        if len(self.classes) < 2:
            raise ValueError(f"factor {self.name!r} has {len(self.classes)} classes; at least two are needed")
        if len(self.prior) != len(self.classes):
            raise ValueError(
                f"factor {self.name!r}: {len(self.prior)} prior probabilities for {len(self.classes)} classes"
            )
        if min(self.prior) <= 0 or abs(sum(self.prior) - 1) > PRIOR_TOLERANCE:
            raise ValueError(f"factor {self.name!r}: prior {self.prior} must be positive and sum to 1")
        require(self.u_dim >= 1, f"factor {self.name!r}: u_dim", self.u_dim, "at least 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of the networks: a column of the paper's Tables 3 to 5."""

    image_size: tuple[int, int, int]
    """Height, width and channels of the images of the data set."""
    network_size: tuple[int, int]
    """Height and width of the networks' input; images are resized to it with bilinear interpolation."""
    encoder_channels: tuple[int, ...]
    """Filters of the encoder's 4x4 stride-2 convolutions."""
    encoder_paddings: tuple[tuple[int, int], ...] = ()
    """Vertical and horizontal padding of each convolution in pixels, mirrored by the decoder; empty: 1 for all."""
    decoder_channels: tuple[int, ...]
    """Filters of the decoder's transposed convolutions, except the last, which has one per image channel."""
    hidden_dim: int = 256
    """Units of h, the feature vector of the encoder."""
    leaky_slope: float = 0.0
    """Negative slope of the LeakyReLU after the encoder's last convolution and at h, 0.1 in the authors' code; 0 is
    ReLU. With ReLU more than half of the units of h are soon zero for every image."""
    initial_weights: Literal["pytorch", "he"] = "pytorch"
    """Initial weights of the trunk and of the decoder but for its last layer: PyTorch's, as in the authors' code, or
    those of He et al. (2015), which keep the size of activations; PyTorch's divide it by about two in each layer."""
    z_dim: int
    """Dimensions of the class-independent latent z."""
    factors: tuple[FactorConfig, ...]
    """The class variables; empty for baselines, which have z alone."""
    prior_spacing: float = 0.0
    """Initial distance between the prior means of consecutive classes in the first dimension of u; 0 samples them from
    N(0, 1), as the authors do."""

    def __post_init__(self) -> None:
        """Validate the values."""
        names = [factor.name for factor in self.factors]
        if len(set(names)) != len(names):
            raise ValueError(f"factors must have different names, not {names}")
        require_choice(self, "model", initial_weights=("pytorch", "he"))
        require(self.z_dim >= 1, "model.z_dim", self.z_dim, "at least 1")
        require(self.hidden_dim >= 1, "model.hidden_dim", self.hidden_dim, "at least 1")
        require(self.prior_spacing >= 0, "model.prior_spacing", self.prior_spacing, "at least 0")
        require(self.image_size[2] in (1, 3), "model.image_size", self.image_size, "grey (1 channel) or RGB (3)")
        if len(self.decoder_channels) != len(self.encoder_channels):
            raise ValueError("model.encoder_channels and model.decoder_channels must have the same length")
        channels = (*self.encoder_channels, *self.decoder_channels)
        require(
            min(channels, default=0) >= 1, "model.encoder_channels and decoder_channels", channels, "all at least 1"
        )
        if self.encoder_paddings and len(self.encoder_paddings) != len(self.encoder_channels):
            raise ValueError("model.encoder_paddings must be empty or have one entry per convolution")
        require(0 <= self.leaky_slope < 1, "model.leaky_slope", self.leaky_slope, "in [0, 1)")
        smallest = 2 ** len(self.encoder_channels)
        require(
            min(self.network_size) >= smallest, "model.network_size", self.network_size, f"at least {smallest} each way"
        )

    @property
    def layer_paddings(self) -> tuple[tuple[int, int], ...]:
        """Vertical and horizontal padding of each of the encoder's convolutions."""
        return self.encoder_paddings or ((1, 1),) * len(self.encoder_channels)

    @property
    def u_dim(self) -> int:
        """Total dimensions of all u_k."""
        return sum(factor.u_dim for factor in self.factors)
