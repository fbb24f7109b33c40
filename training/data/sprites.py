"""Drawn sprites of dSprites: three shapes in six sizes and forty orientations, at any of 32 x 32 positions.

An approximation of the original: factors and their order, the fraction of white pixels (0.0425) and the range of sizes
are those of the original; outlines may differ by a pixel. Memory: 7 MB for the 720 masks, of which images are windows.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

SIDE = 64
"""Height and width of an image in pixels."""
SHAPES = ("square", "ellipse", "heart")
SIZES = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
"""Number of values of each factor, in the order of the original: y changes fastest."""
COUNT = math.prod(SIZES.values())

RADIUS = 10.24
"""Pixels per unit of the outlines at scale 1; chosen to match the mean of the original."""
SMALLEST = 0.5
"""Scales are evenly spaced from this to 1."""
SQUARE_HALF_SIDE = 0.9
ELLIPSE_HALF_AXES = (1.2, 0.6)
HEART_UNIT = 0.0705
"""Scales the curve of the heart, 32 units wide, to 2.26 radii."""
OUTLINE_POINTS = 128

MASK_SIDE = SIDE - SIZES["x"] + 1
"""33: a mask can be shifted by 0 to 31 pixels without leaving the image."""
SUPERSAMPLING = 8


class DrawnSprites:
    """All 737,280 images, by index: uint8 0 or 255, grey, in the original's order."""

    memory = "7 MB of masks; images are created on access"

    def __init__(self) -> None:
        """Draw the 720 masks, in about half a second."""
        places = SIZES["x"] - 1
        canvas = np.pad(_draw_masks(), ((0, 0), (places, places), (places, places)))
        # Window [places - y, places - x] shows the mask at column x and row y.
        self._windows = sliding_window_view(canvas, (SIDE, SIDE), axis=(1, 2))[:, ::-1, ::-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Count, height, width, channels."""
        return (COUNT, SIDE, SIDE, 1)

    def __len__(self) -> int:
        """Count the images."""
        return COUNT

    def __getitem__(self, indices: Tensor) -> UInt8[Tensor, "batch height width channels"]:
        """Return the images of an index tensor, in its order."""
        flat = indices.numpy()
        mask, place = np.divmod(flat, SIZES["x"] * SIZES["y"])
        x, y = np.divmod(place, SIZES["y"])
        return torch.from_numpy(self._windows[mask, y, x]).unsqueeze(-1)


def _draw_masks() -> NDArray[np.uint8]:
    """Draw every shape, scale and orientation, centred in a small square: [720, 33, 33], 0 or 255."""
    scales = np.linspace(SMALLEST, 1, SIZES["scale"])
    # Both ends are included, as in the original: orientations 0 and 39 are equal.
    angles = np.linspace(0, 2 * math.pi, SIZES["orientation"])
    masks = [
        _fill(_rotated(outline, angle) * (scale * RADIUS))
        for outline in (_square(), _ellipse(), _heart())
        for scale in scales
        for angle in angles
    ]
    return np.stack(masks)


def _square() -> NDArray[np.float64]:
    return SQUARE_HALF_SIDE * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def _ellipse() -> NDArray[np.float64]:
    t = _turn()
    return np.stack([ELLIPSE_HALF_AXES[0] * np.cos(t), ELLIPSE_HALF_AXES[1] * np.sin(t)], axis=1)


def _heart() -> NDArray[np.float64]:
    t = _turn()
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return HEART_UNIT * np.stack([x, -y], axis=1)


def _turn() -> NDArray[np.float64]:
    return np.linspace(0, 2 * math.pi, OUTLINE_POINTS, endpoint=False)


def _rotated(points: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    x, y = points.T
    sine, cosine = math.sin(angle), math.cos(angle)
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)


def _fill(outline: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Draw a filled outline, in pixels around the origin: supersampled, averaged per pixel, white from one half."""
    large = Image.new("L", (MASK_SIDE * SUPERSAMPLING, MASK_SIDE * SUPERSAMPLING))
    points = (outline + MASK_SIDE / 2) * SUPERSAMPLING - 0.5
    ImageDraw.Draw(large).polygon([(x, y) for x, y in points.tolist()], fill=255)
    small = np.asarray(large.reduce(SUPERSAMPLING))
    return np.where(small >= 128, 255, 0).astype(np.uint8)
