"""The networks of Tables 3 to 5 (encoder trunk and decoder), pre- and postprocessing."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from partedvae.training.config.architecture import ModelConfig

KERNEL, STRIDE, PADDING = 4, 2, 1


def preprocess(
    images: UInt8[Tensor, "batch height width channels"], network_size: tuple[int, int]
) -> Float[Tensor, "batch channels net_height net_width"]:
    """Scale uint8 pixels to [0, 1] and resize them with bilinear interpolation; also part of the exported encoder."""
    # An NHWC tensor viewed as NCHW is channels_last in memory, which is fast in convolutions.
    scaled = images.permute(0, 3, 1, 2).float() / 255
    return _resize(scaled, network_size)


def postprocess(
    pixels: Float[Tensor, "batch channels net_height net_width"], image_size: tuple[int, int]
) -> UInt8[Tensor, "batch height width channels"]:
    """Resize pixels in [0, 1] to the size of the images and round them to uint8; also part of the exported decoder."""
    resized = _resize(pixels, image_size).permute(0, 2, 3, 1)
    return (resized * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)


def feature_map_sizes(size: tuple[int, int], layers: int) -> list[tuple[int, int]]:
    """Return the height and width before the first and after each of `layers` stride-2 convolutions."""
    sizes = [size]
    for _ in range(layers):
        height, width = sizes[-1]
        sizes.append((height // 2, width // 2))
    return sizes


class EncoderTrunk(nn.Module):
    """The trunk of the encoder: images to h, the input of all heads (Figure 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = (config.image_size[2], *config.encoder_channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, KERNEL, STRIDE, PADDING) for before, after in pairwise(channels)
        )
        height, width = feature_map_sizes(config.network_size, len(config.encoder_channels))[-1]
        self.hidden = nn.Linear(channels[-1] * height * width, config.hidden_dim)

    def forward(self, pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch hidden"]:
        """Return h."""
        for convolution in self.convolutions:
            pixels = functional.relu(convolution(pixels))
        return functional.relu(self.hidden(pixels.flatten(1)))


class Decoder(nn.Module):
    """Latents to pixels in [0, 1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes = feature_map_sizes(config.network_size, len(config.decoder_channels))[::-1]
        self.map_shape = (config.decoder_channels[0], *sizes[0])
        self.hidden = nn.Linear(config.z_dim + config.u_dim, config.hidden_dim)
        self.map = nn.Linear(config.hidden_dim, math.prod(self.map_shape))
        channels = (*config.decoder_channels, config.image_size[2])
        self.convolutions = nn.ModuleList(
            # The encoder drops a pixel of odd sizes; output_padding restores it.
            nn.ConvTranspose2d(before, after, KERNEL, STRIDE, PADDING, output_padding=(size[0] % 2, size[1] % 2))
            for before, after, size in zip(channels, channels[1:], sizes[1:], strict=False)
        )

    def logits(
        self, u: Float[Tensor, "batch u_dim"], z: Float[Tensor, "batch z_dim"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the pixels before the final sigmoid, as input of the binary cross-entropy."""
        hidden = functional.relu(self.hidden(torch.cat([z, u], dim=-1)))
        pixels = functional.relu(self.map(hidden)).unflatten(1, self.map_shape)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions[:-1]:
            pixels = functional.relu(convolution(pixels))
        return self.convolutions[-1](pixels).float()  # type: ignore[no-any-return]  # ModuleList loses the type

    def forward(
        self, u: Float[Tensor, "batch u_dim"], z: Float[Tensor, "batch z_dim"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the mean image of p(x | u, z)."""
        return torch.sigmoid(self.logits(u, z))
