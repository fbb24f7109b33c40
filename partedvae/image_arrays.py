"""Arrays that are not images yet: checks and remedies, of the client and of batch extraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from partedvae.errors import InvalidRequestError
from partedvae.results import ImageArray


def dtype_remedy(dtype: np.dtype[Any]) -> str:
    """Return how to convert an array x of another type to uint8."""
    if np.issubdtype(dtype, np.floating):
        return "scale it to 0..255 and convert: (x * 255).round().astype(np.uint8) if x is in 0..1"
    if dtype == np.bool_:
        return "convert it with x.astype(np.uint8) * 255"
    if np.issubdtype(dtype, np.uint16):
        return "convert it with (x // 257).astype(np.uint8) if its values are 0..65535"
    if np.issubdtype(dtype, np.integer):
        return "convert it with x.astype(np.uint8) if its values are 0..255"
    return "pass numbers; names of files and images of several sizes are a list, such as list(x)"


def unmasked(array: ImageArray, where: str) -> ImageArray:
    """Return the array itself, or the data of a masked array without masked pixels.

    Raises:
        InvalidRequestError: pixels are masked, so that their values mean nothing.
    """
    if not isinstance(array, np.ma.MaskedArray):
        return array
    if np.ma.getmaskarray(array).any():
        raise InvalidRequestError(f"{where} has masked pixels; fill them: x.filled(0)")
    return array.data


def channels_remedy(shape: Sequence[int]) -> str:
    """Return how to correct the axes of an array x, with a semicolon in front; empty where that is not known.

    Args:
        shape: that of one image, [height, width, channels] or with other axes, or of several.
    """
    if len(shape) < 3:
        return ""
    if shape[-3] in (1, 3):
        return "; move the channels to the end: np.moveaxis(x, -3, -1)"
    if shape[-1] == 4:
        return "; leave out the alpha channel: x[..., :3]"
    if shape[-1] == 2:
        return "; leave out the alpha channel: x[..., :1]"
    return ""
