"""All methods by name."""

from __future__ import annotations

import torch

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.distributed import Ranks
from partedvae.training.objectives.baselines import BetaTCVAE, BetaVAE
from partedvae.training.objectives.factor_vae import FactorVAE
from partedvae.training.objectives.method import Method
from partedvae.training.objectives.partedvae import PartedVAEMethod


def make_method(config: TrainConfig, ranks: Ranks, device: torch.device, train_images: int) -> Method | None:
    """Return the run's method; None for the classifier, which learns from labels alone."""
    match config.method:
        case "partedvae":
            return PartedVAEMethod(config, ranks)
        case "vae" | "beta-vae":
            return BetaVAE(config, ranks)
        case "beta-tcvae":
            return BetaTCVAE(config, ranks, train_images)
        case "factor-vae":
            return FactorVAE(config, ranks, device)
        case "classifier":
            return None
