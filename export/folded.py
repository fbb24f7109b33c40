"""The encoder as it is exported: what does not depend on the images is computed beforehand."""

from __future__ import annotations

import copy

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.nn import functional

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.model.networks import resize
from partedvae.training.model.partedvae import PartedVAE


class FoldedEncoder(nn.Module):
    """Computes what `partedvae.export.graphs.EncoderGraph` computes, within rounding.

    - Pixels are not divided by 255; the weights of the first convolution are. Resizing is linear, and the zeros of the
      padding are zeros in both.
    - The attention of every class is a row of a table, since u is computed for the most probable class alone.
    """

    def __init__(self, model: PartedVAE, config: TrainConfig) -> None:
        super().__init__()
        self.image_size = config.model.image_size
        self.network_size = config.model.network_size
        self.model = copy.deepcopy(model)
        with torch.no_grad():
            first = self.model.trunk.convolutions[0]
            assert isinstance(first, nn.Conv2d)
            first.weight.div_(255)
            self.gates = [
                torch.sigmoid(config.schedule.attention_slope * factor.attention(torch.eye(len(factor.config.classes))))
                for factor in model.class_factors()
            ]

    def forward(self, images: UInt8[Tensor, "batch height width channels"]) -> tuple[Tensor, ...]:
        """Return the outputs of `EncoderGraph`."""
        hidden = self.model.trunk(resize(self._planes(images).float(), self.network_size))
        outputs = []
        for factor, gates in zip(self.model.class_factors(), self.gates, strict=True):
            logits = factor.logits(hidden)
            gate = functional.embedding(logits.argmax(dim=-1), gates)
            outputs += [torch.softmax(logits, dim=-1), *factor.u_head(hidden * gate).chunk(2, dim=-1)]
        return (*outputs, *self.model.z_head(hidden).chunk(2, dim=-1))

    def _planes(self, images: Tensor) -> UInt8[Tensor, "batch channels height width"]:
        """Return the channels as separate planes; grey images are one already, of which nothing is moved."""
        height, width, channels = self.image_size
        return images.reshape(-1, 1, height, width) if channels == 1 else images.permute(0, 3, 1, 2)
