"""Small random changes of place that leave an image's class alone."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

MAX_ROTATION = math.radians(15)
MAX_SHIFT = 0.125
"""Share of half the image: two pixels of 32."""
MAX_SCALE = 0.1
MAX_SHEAR = 0.15


def random_affine(pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
    """Rotate, shift, scale and shear each image at random; zeros come in. Consumes torch's global random state."""
    angle, shear, scale, shift_x, shift_y = 2 * torch.rand(5, len(pixels), device=pixels.device) - 1
    angle, shear, scale = angle * MAX_ROTATION, shear * MAX_SHEAR, 1 + scale * MAX_SCALE
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    matrices = torch.stack(
        [
            torch.stack([cos, shear - sin, shift_x * MAX_SHIFT], dim=1),
            torch.stack([sin, cos, shift_y * MAX_SHIFT], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(matrices, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, align_corners=False)
