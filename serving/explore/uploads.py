"""Images of visitors, as the model sees them: decoded within the limits of requests, and fitted to its size."""

from __future__ import annotations

import numpy as np

from partedvae.common.image_decoding import fit_image, from_pixels
from partedvae.grid import png_bytes
from partedvae.image_fit import fit_of
from partedvae.model_results import ModelDetails
from partedvae.packing import RequestLimits
from partedvae.results import ImageArray
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.image_files import decode_file, examine_file


def decode_upload(content: bytes, details: ModelDetails, limits: RequestLimits) -> ImageArray:
    """Return an image file as the model sees it, uint8 [height, width, channels].

    Args:
        content: the file.
        details: the model.
        limits: of one request.

    Raises:
        InvalidInputError: it is not an image that the model can be given.
    """

    def check(width: int, height: int) -> None:
        if width * height > limits.max_pixels:
            raise ImageError(
                0,
                f"it has {width * height:,} pixels, more than the limit of {limits.max_pixels:,}; make it smaller",
            )

    spec = details.manifest.image
    fit = fit_of(spec)
    if fit is None:
        raise InvalidInputError("the model's images are fitted in a way that this version does not know; update it")
    try:
        examine_file(0, content)
        image = decode_file(0, content, check)
    except ImageError as error:
        raise InvalidInputError(f"the image cannot be used: {error.reason}") from error
    return fit_image(image, (spec.height, spec.width, spec.channels), fit)


def to_png(pixels: ImageArray) -> bytes:
    """Return an image [height, width, channels] as PNG."""
    return png_bytes(from_pixels(pixels))


def background(images: ImageArray) -> tuple[int, int, int]:
    """Return the colour that most images [count, height, width, channels] have at their border."""
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    middle = np.median(border.reshape(-1, border.shape[-1]), axis=0).astype(int).tolist()
    red, green, blue = middle * 3 if len(middle) == 1 else middle
    return red, green, blue
