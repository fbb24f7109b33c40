"""Names of the ways to fit an image of another shape to the size of the model's images.

stretch: resized without keeping the aspect ratio.
pad: resized to fit inside, in the centre, over black.
crop: cropped around the centre to the aspect ratio of the model's images, then resized.

`partedvae.common.image_decoding.fit_image` applies them. This module does not need Pillow.
"""

from __future__ import annotations

from typing import Literal, get_args

Fit = Literal["stretch", "pad", "crop"]
FITS: tuple[Fit, ...] = get_args(Fit)
DEFAULT_FIT: Fit = "stretch"
"""That of runs and bundles before 0.3.0."""
