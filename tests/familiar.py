"""A tiny model that knows the range of its scores, with images of every kind: familiar, inverted and unfamiliar."""

from __future__ import annotations

import dataclasses

import numpy as np

from partedvae.familiarity import FAMILIAR, INVERTED, UNFAMILIAR
from tests.bundles import GREY

MODEL = dataclasses.replace(GREY, familiar_negative_elbo=23.0)

_BINARY = (np.random.default_rng(0).random((2, 8, 6, 1)) < 0.5).astype(np.uint8) * 255
IMAGES = np.concatenate([GREY.random_images(2), GREY.random_images(1) // 8, 255 - GREY.random_images(2) // 8, _BINARY])
"""uint8 [7, 8, 6, 1]."""
TEXTS = [FAMILIAR, FAMILIAR, FAMILIAR, INVERTED, INVERTED, UNFAMILIAR, UNFAMILIAR]
SCORES = MODEL.score(IMAGES)["negative_elbo"]
INVERTED_SCORES = MODEL.score(255 - IMAGES)["negative_elbo"]
