"""The range of the negative ELBO of images like the training images, by which a served model warns of others."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
and few further test images exceed it where the quantile was estimated from few."""
LEAST_SPREAD = 0.05
"""Least distance of quantile and median, relative to the median: scores of a few similar images hardly differ."""

PERCENTILES = range(0, 101, 5)
"""Percentiles of the scores that the manifest has."""


@dataclass(frozen=True, kw_only=True)
class FamiliarScores:
    """Negative ELBOs, in nats, of images like the training images."""

    limit: float
    """The score above which an image is unlike them."""
    percentiles: list[float]
    """`PERCENTILES` of the scores; none where a score is not finite."""


def familiar_scores(model: PartedVAE, config: TrainConfig, images: Tensor) -> FamiliarScores | None:
    """Return the range of the negative ELBO of images like the training images.

    Args:
        model: the exported model.
        config: its configuration.
        images: test images, or others that were not seen in training, uint8 [count, height, width, channels].

    Returns:
        The range; None for a model whose scores are not finite.
    """
    graph = ScorerGraph(model, config).eval()
    with torch.no_grad():
        scores = torch.cat([graph(batch)[-1] for batch in images.split(BATCH)]).double()
    median = scores.median().item()
    spread = max(scores.quantile(QUANTILE).item() - median, LEAST_SPREAD * abs(median))
    limit = median + MARGIN * spread
    if not math.isfinite(limit):
        return None
    shares = torch.tensor(PERCENTILES, dtype=torch.float64) / 100
    return FamiliarScores(limit=limit, percentiles=scores.quantile(shares).tolist() if scores.isfinite().all() else [])
