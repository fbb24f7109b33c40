"""The configuration of the networks: one column of the paper's Tables 3 to 5, and the class variables."""

from __future__ import annotations

from dataclasses import dataclass

from partedvae.training.config.validation import require

PRIOR_TOLERANCE = 1e-4
"""How far the sum of a class prior may be from one."""


@dataclass(frozen=True, kw_only=True)
class FactorConfig:
    """One class variable c_k (paper section 4.6)."""

    name: str
    """Name of the factor, "digit" for MNIST."""
    classes: tuple[str, ...]
    """Names of its classes."""
    prior: tuple[float, ...]
    """p(c_k), one value a class."""
    u_dim: int
    """Dimensions of u_k."""

    def __post_init__(self) -> None:
        """Check what the dataclass cannot say."""
        if len(self.classes) < 2:
            raise ValueError(f"factor {self.name!r} has {len(self.classes)} classes; it needs at least two")
        if len(self.prior) != len(self.classes):
            raise ValueError(
                f"factor {self.name!r}: {len(self.prior)} prior probabilities for {len(self.classes)} classes"
            )
        if min(self.prior) <= 0 or abs(sum(self.prior) - 1) > PRIOR_TOLERANCE:
            raise ValueError(f"factor {self.name!r}: prior {self.prior} must be positive and sum to 1")
        require(self.u_dim >= 1, f"factor {self.name!r}: u_dim", self.u_dim, "at least 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture: one column of the paper's Tables 3 to 5."""

    image_size: tuple[int, int, int]
    """Height, width and channels of the data set's images."""
    network_size: tuple[int, int]
    """Height and width at which the networks work; images are resized to it bilinearly."""
    encoder_channels: tuple[int, ...]
    """Filters of the encoder's 4x4 stride-2 convolutions."""
    decoder_channels: tuple[int, ...]
    """Filters of the decoder's transposed convolutions but the last, whose filters are the image's channels."""
    hidden_dim: int = 256
    """Units of h, the encoder's feature vector."""
    z_dim: int
    """Dimensions of the class-independent latent z."""
    factors: tuple[FactorConfig, ...]
    """The class variables; none for a baseline that has z alone."""
    prior_spacing: float = 0.0
    """Distance of neighbouring classes' prior means in u's first dimension when training begins, in the order of the
    classes; 0 draws them from N(0, 1), as the authors do."""

    def __post_init__(self) -> None:
        """Check what the dataclass cannot say."""
        names = [factor.name for factor in self.factors]
        if len(set(names)) != len(names):
            raise ValueError(f"factors must have different names, not {names}")
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
        smallest = 2 ** len(self.encoder_channels)
        require(
            min(self.network_size) >= smallest, "model.network_size", self.network_size, f"at least {smallest} each way"
        )

    @property
    def u_dim(self) -> int:
        """Dimensions of all u_k together."""
        return sum(factor.u_dim for factor in self.factors)
