"""Augmentations that keep the class of an image: random affine maps and cutout."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from partedvae.training.distributed import SINGLE_PROCESS, ShardedNoise

MAX_ROTATION = math.radians(15)
MAX_SHIFT = 0.125
"""Fraction of half the side of an image: two pixels of 32."""
MAX_SCALE = 0.1
MAX_SHEAR = 0.15
PATCH = 0.34
"""Side of the patch of `cutout`, as a fraction of the side of the image: 11 pixels of 32."""


def random_affine(
    pixels: Float[Tensor, "batch channels height width"], noise: ShardedNoise = SINGLE_PROCESS.noise
) -> Float[Tensor, "batch channels height width"]:
    """Rotate, shift, scale and shear each image at random, with zeros outside the image.

    Args:
        pixels: the images.
        noise: source of random numbers; the default uses torch's global random state.
    """
    angle, shear, scale, shift_x, shift_y = (2 * noise.uniform(pixels.new_empty(len(pixels), 5)) - 1).T
    angle, shear, scale = angle * MAX_ROTATION, shear * MAX_SHEAR, 1 + scale * MAX_SCALE
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    matrices = torch.stack(
        [
            torch.stack([cos, shear - sin, shift_x * MAX_SHIFT], dim=1),
            torch.stack([sin, cos, shift_y * MAX_SHIFT], dim=1),
        ],
        dim=1,
    )
    # With mixed precision the coordinates would be rounded to bfloat16.
    with torch.autocast(pixels.device.type, enabled=False):
        grid = functional.affine_grid(matrices, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, align_corners=False)


def cutout(
    pixels: Float[Tensor, "batch channels height width"], noise: ShardedNoise = SINGLE_PROCESS.noise
) -> Float[Tensor, "batch channels height width"]:
    """Set a random square patch of each image to zero (DeVries and Taylor 2017); it is clipped at the edge.

    Args:
        pixels: the images.
        noise: source of random numbers; the default uses torch's global random state.
    """
    height, width = pixels.shape[-2:]
    centre = noise.uniform(pixels.new_empty(len(pixels), 2))
    rows = (torch.arange(height, device=pixels.device) - height * centre[:, :1]).abs() < PATCH * height / 2
    columns = (torch.arange(width, device=pixels.device) - width * centre[:, 1:]).abs() < PATCH * width / 2
    return pixels.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0.0)
