"""The networks of Tables 3 to 5 (encoder trunk and decoder), pre- and postprocessing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from partedvae.training.config.architecture import ModelConfig

KERNEL, STRIDE = 4, 2


def preprocess(
    images: UInt8[Tensor, "batch height width channels"], network_size: tuple[int, int]
) -> Float[Tensor, "batch channels net_height net_width"]:
    """Scale uint8 pixels to [0, 1] and resize them with bilinear interpolation; also part of the exported encoder."""
    # An NHWC tensor viewed as NCHW is channels_last in memory, which is fast in convolutions.
    scaled = images.permute(0, 3, 1, 2).float() / 255
    return resize(scaled, network_size)


def postprocess(
    pixels: Float[Tensor, "batch channels net_height net_width"], image_size: tuple[int, int]
) -> UInt8[Tensor, "batch height width channels"]:
    """Resize pixels in [0, 1] to the size of the images and round them to uint8; also part of the exported decoder."""
    # Rounded before the dimensions are permuted: ONNX Runtime is slow at arithmetic whose last dimension is 1.
    rounded = (resize(pixels, image_size) * 255 + 0.5).clamp(0, 255).to(torch.uint8)
    return rounded.permute(0, 2, 3, 1).contiguous()


def resize(
    pixels: Float[Tensor, "batch channels height width"], size: tuple[int, int]
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Resize images with bilinear interpolation, without filtering those that shrink."""
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)


def feature_map_sizes(config: ModelConfig) -> list[tuple[int, int]]:
    """Return the height and width before the first and after each of the encoder's convolutions."""
    sizes = [config.network_size]
    for vertical, horizontal in config.layer_paddings:
        height, width = sizes[-1]
        sizes.append((_convolved(height, vertical), _convolved(width, horizontal)))
    return sizes


def _convolved(pixels: int, padding: int) -> int:
    return (pixels + 2 * padding - KERNEL) // STRIDE + 1


def _dropped(pixels: int, padding: int) -> int:
    return (pixels + 2 * padding - KERNEL) % STRIDE


def _initialise(layers: Iterable[nn.Module]) -> None:
    """Draw weights with which ReLUs keep the size of activations, and set biases to zero (He et al. 2015)."""
    for layer in layers:
        assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        with torch.no_grad():
            if isinstance(layer, nn.ConvTranspose2d):
                # Each output pixel is a sum over the part of the kernel that its stride leaves.
                inputs = layer.in_channels * (KERNEL / STRIDE) ** 2
                layer.weight.normal_(std=math.sqrt(2 / inputs))
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            layer.bias.zero_()


def leaky_mlp(units: Sequence[int], outputs: int, slope: float) -> nn.Sequential:
    """Return a network with hidden layers of LeakyReLU units and a linear layer of outputs.

    Args:
        units: number of inputs, then of the units of each hidden layer.
        outputs: number of outputs.
        slope: negative slope of the LeakyReLU.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(units):
        layers += [nn.Linear(before, after), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers, nn.Linear(units[-1], outputs))


class EncoderTrunk(nn.Module):
    """The trunk of the encoder: images to h, the input of all heads (Figure 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = (config.image_size[2], *config.encoder_channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, KERNEL, STRIDE, padding)
            for (before, after), padding in zip(pairwise(channels), config.layer_paddings, strict=True)
        )
        self.slope = config.leaky_slope
        height, width = feature_map_sizes(config)[-1]
        self.hidden = nn.Linear(channels[-1] * height * width, config.hidden_dim)
        if config.initial_weights == "he":
            _initialise([*self.convolutions, self.hidden])

    def forward(self, pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch hidden"]:
        """Return h."""
        *first, last = self.convolutions
        for convolution in first:
            pixels = functional.relu(convolution(pixels))
        pixels = self._activated(last(pixels))
        return self._activated(self.hidden(pixels.flatten(1)))

    def _activated(self, values: Tensor) -> Tensor:
        """Return LeakyReLU of the values; of slope 0 it is ReLU, which ONNX Runtime merges with quantized layers."""
        return functional.leaky_relu(values, self.slope) if self.slope else functional.relu(values)


class Decoder(nn.Module):
    """Latents to pixels in [0, 1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes = feature_map_sizes(config)[::-1]
        self.map_shape = (config.decoder_channels[0], *sizes[0])
        self.hidden = nn.Linear(config.z_dim + config.u_dim, config.hidden_dim)
        self.map = nn.Linear(config.hidden_dim, math.prod(self.map_shape))
        channels = (*config.decoder_channels, config.image_size[2])
        self.convolutions = nn.ModuleList(
            # The encoder drops the last pixel where its stride does not reach it; output_padding restores it.
            nn.ConvTranspose2d(
                before, after, KERNEL, STRIDE, padding, (_dropped(size[0], padding[0]), _dropped(size[1], padding[1]))
            )
            for (before, after), size, padding in zip(
                pairwise(channels), sizes[1:], config.layer_paddings[::-1], strict=True
            )
        )
        if config.initial_weights == "he":
            # The last layer is not followed by a ReLU: its images would be noise with a large error.
            _initialise([self.hidden, self.map, *self.convolutions[:-1]])

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
