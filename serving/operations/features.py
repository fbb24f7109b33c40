"""Features, classes and scores of images."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from partedvae.common.suggest import did_you_mean
from partedvae.requests import DEFAULT_INCLUDE, FeatureName
from partedvae.results import FactorResult, Features, FloatArray, ImageArray
from partedvae.serving.bundle import NEGATIVE_ELBO, RECONSTRUCTION_ERROR, Z_LOGVAR, Z_MEAN, factor_output
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.operations.model import Model

OUTPUTS: tuple[FeatureName, ...] = get_args(FeatureName)
"""Everything that `features` can return."""


async def features(model: Model, images: ImageArray, include: Collection[str] = DEFAULT_INCLUDE) -> Features:
    """Return the features of images.

    Runs the encoder, the scorer, or both, depending on `include`.

    Args:
        model: the model to run.
        images: uint8 [images, height, width, channels] at the model's size; see `partedvae.serving.images`.
        include: names from `OUTPUTS`; the others stay None.

    Raises:
        InvalidInputError: `include` is empty, or has an unknown name.
        BundleError: a score is included, and the bundle has no scorer.
    """
    if not include:
        raise InvalidInputError(f"include is empty; choose from {list(OUTPUTS)}")
    for kind in include:
        if kind not in OUTPUTS:
            hint = did_you_mean(kind, OUTPUTS)
            raise InvalidInputError(f"include has {kind!r}, which is no output: choose from {list(OUTPUTS)}{hint}")
    per_factor = [kind for kind in ("probs", "u_mean", "u_logvar") if kind in include]
    names = [factor_output(factor.name, kind) for factor in model.manifest.factors for kind in per_factor]
    names += [name for name in (Z_MEAN, Z_LOGVAR) if name in include]
    scores = [name for name in (RECONSTRUCTION_ERROR, NEGATIVE_ELBO) if name in include]
    if scores:
        model.check_scores()
    arrays: dict[str, FloatArray] = {}
    if names:
        arrays |= await model.encode(images, names)
    if scores:
        arrays |= await model.score(images, scores)
    factors = tuple(
        FactorResult(
            name=factor.name,
            class_names=tuple(factor.class_names),
            **{kind: arrays[factor_output(factor.name, kind)] for kind in per_factor},
        )
        for factor in model.manifest.factors
    )
    return Features(
        factors=factors,
        z=arrays.get(Z_MEAN),
        z_logvar=arrays.get(Z_LOGVAR),
        reconstruction_error=arrays.get(RECONSTRUCTION_ERROR),
        negative_elbo=arrays.get(NEGATIVE_ELBO),
        model=model.name,
        version=model.version,
    )


async def classify(model: Model, images: ImageArray) -> Features:
    """Return q(c_k | x) alone; `.factors[k].class_indices` and `.classes` are the most probable class per image."""
    return await features(model, images, ("probs",))
