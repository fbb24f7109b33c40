"""All methods by name."""

from __future__ import annotations

import torch

from training.config import TrainConfig
from training.methods.baselines import BetaTCVAE, BetaVAE
from training.methods.factor_vae import FactorVAE
from training.methods.method import Method
from training.methods.partedvae import PartedVAEMethod
from training.parallel import Ranks


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
