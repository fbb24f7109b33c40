"""The range of the negative ELBO of images like the training images, by which a served model warns of others."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from partedvae.export.graphs import ScorerGraph
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.model.partedvae import PartedVAE

IMAGES = 2000
"""Images that are scored: enough for the quantile, and seconds on one processor."""
BATCH = 64
QUANTILE = 0.999
"""Quantile of the scores that stands for the end of their range; the maximum would be that of the oddest image."""
MARGIN = 2.0
"""The limit is this many times as far above the median as the quantile: images of another kind are much farther off,
and test images of which few are known hardly are."""
LEAST_SPREAD = 0.05
"""Least distance of quantile and median, relative to the median: scores of a few similar images hardly differ."""


def familiar_negative_elbo(model: PartedVAE, config: TrainConfig, images: Tensor) -> float | None:
    """Return the largest negative ELBO, in nats, of an image like the training images.

    Args:
        model: the exported model.
        config: its configuration.
        images: test images, uint8 [count, height, width, channels].

    Returns:
        The limit; None for a model whose scores are not finite.
    """
    graph = ScorerGraph(model, config).eval()
    with torch.no_grad():
        scores = torch.cat([graph(batch)[-1] for batch in images.split(BATCH)]).double()
    median = scores.median().item()
    spread = max(scores.quantile(QUANTILE).item() - median, LEAST_SPREAD * abs(median))
    limit = median + MARGIN * spread
    return limit if math.isfinite(limit) else None
