"""Training methods by name."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.distributed import DistributedContext
from partedvae.training.objectives.baselines import BetaTCVAE, BetaVAE
from partedvae.training.objectives.factor_vae import FactorVAE
from partedvae.training.objectives.method import Method
from partedvae.training.objectives.partedvae import PartedVAEMethod


def make_method(
    config: TrainConfig,
    context: DistributedContext,
    device: torch.device,
    train_images: int,
    labels: Int[Tensor, "labelled factors"],
) -> Method | None:
    """Return the method of a run; None for the classifier, which is trained on labels alone.

    Args:
        config: configuration of the run.
        context: the processes that train together.
        device: device of auxiliary networks.
        train_images: number of training images.
        labels: class indices of the labelled images, -1 where unknown.
    """
    match config.method:
        case "partedvae":
            return PartedVAEMethod(config, context, device, labels)
        case "vae" | "beta-vae":
            return BetaVAE(config, context)
        case "beta-tcvae":
            return BetaTCVAE(config, context, train_images)
        case "factor-vae":
            return FactorVAE(config, context, device)
        case "classifier":
            return None
