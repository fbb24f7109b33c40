"""Features, classes and scores of images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import get_args
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from partedvae.common.suggest import did_you_mean
from partedvae.familiarity import FAMILIAR, INVERTED, UNFAMILIAR
from partedvae.requests import DEFAULT_INCLUDE, FeatureName
from partedvae.results import FactorResult, Features, FloatArray, ImageArray
from partedvae.serving.bundle import NEGATIVE_ELBO, RECONSTRUCTION_ERROR, Z_LOGVAR, Z_MEAN, factor_output
from partedvae.serving.errors import BundleError, InvalidInputError
from partedvae.serving.onnx.model import OnnxModel
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
        BundleError: a score is included, and the bundle has no scorer; or "unfamiliar" is, and the bundle does not have
            the range of the score.
    """
    plan = _plan_of(model, include)
    arrays: dict[str, FloatArray] = {}
    if plan.encoder:
        arrays |= await model.encode(images, plan.encoder)
    if plan.scorer:
        arrays |= await model.score(images, plan.scorer)
    factors = [
        FactorResult(name=name, class_names=classes, **{kind: arrays[output] for kind, output in outputs})
        for name, classes, outputs in plan.factors
    ]
    return Features(
        factors=tuple(factors),
        z=arrays.get(Z_MEAN),
        z_logvar=arrays.get(Z_LOGVAR),
        reconstruction_error=arrays.get(RECONSTRUCTION_ERROR),
        negative_elbo=arrays[NEGATIVE_ELBO] if NEGATIVE_ELBO in include else None,
        unfamiliar=await _unfamiliar(model, images, arrays[NEGATIVE_ELBO]) if "unfamiliar" in include else None,
        model=model.name,
        version=model.version,
    )


async def classify(model: Model, images: ImageArray, *, check_familiarity: bool = False) -> Features:
    """Return q(c_k | x); `.factors[k].class_indices` and `.classes` are the most probable class per image.

    Args:
        model: the model to run.
        images: as for `features`.
        check_familiarity: whether to return `unfamiliar` too; errors are those of `features`.
    """
    return await features(model, images, ("probs", "unfamiliar") if check_familiarity else ("probs",))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What `features` does for one `include`: the same for every request, and costly to read from the manifest."""

    encoder: tuple[str, ...]
    """Outputs of the encoder."""
    scorer: tuple[str, ...]
    """Outputs of the scorer."""
    factors: tuple[tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]], ...]
    """Name, class names, and pairs of a field of `FactorResult` and its output, of each factor."""


# By the set of names, of which there are few. Weak: a plan lives as long as its model.
_PLANS: WeakKeyDictionary[OnnxModel, dict[frozenset[str], _Plan]] = WeakKeyDictionary()


def _plan_of(model: Model, include: Collection[str]) -> _Plan:
    """Return the plan of a model; errors are those of `features`."""
    plans = _PLANS.get(model.onnx_model)
    if plans is None:
        plans = _PLANS.setdefault(model.onnx_model, {})
    names = frozenset(include)
    plan = plans.get(names)
    if plan is None:
        plan = plans[names] = _new_plan(model, include)
    return plan


def _new_plan(model: Model, include: Collection[str]) -> _Plan:
    if not include:
        raise InvalidInputError(f"include is empty; choose from {list(OUTPUTS)}")
    for kind in include:
        if kind not in OUTPUTS:
            hint = did_you_mean(kind, OUTPUTS)
            raise InvalidInputError(f"include has {kind!r}, which is no output: choose from {list(OUTPUTS)}{hint}")
    per_factor = [kind for kind in ("probs", "u_mean", "u_logvar") if kind in include]
    factors = tuple(
        (factor.name, tuple(factor.class_names), tuple((kind, factor_output(factor.name, kind)) for kind in per_factor))
        for factor in model.manifest.factors
    )
    encoder = [output for _, _, outputs in factors for _, output in outputs]
    encoder += [name for name in (Z_MEAN, Z_LOGVAR) if name in include]
    # "unfamiliar" needs the negative ELBO, which is returned only if it is included.
    needed = {*include, NEGATIVE_ELBO} if "unfamiliar" in include else include
    scorer = tuple(name for name in (RECONSTRUCTION_ERROR, NEGATIVE_ELBO) if name in needed)
    if scorer:
        model.check_scores()
    if "unfamiliar" in include:
        _check_range(model)
    return _Plan(tuple(encoder), scorer, factors)


def _check_range(model: Model) -> None:
    if not model.manifest.HasField("familiar_negative_elbo"):
        raise BundleError(
            f"version {model.version} of model {model.name!r} does not know the negative ELBO of its training images, "
            "which 'unfamiliar' needs; export the run again"
        )


async def _unfamiliar(model: Model, images: ImageArray, negative_elbo: FloatArray) -> NDArray[np.str_]:
    """Return a text of `partedvae.familiarity` per image; only unfamiliar images are scored again, inverted."""
    limit = model.manifest.familiar_negative_elbo
    far = ~(negative_elbo <= limit)  # Negated, so that NaN is unfamiliar.
    texts = np.array([FAMILIAR, UNFAMILIAR, INVERTED])
    kinds = far.astype(np.intp)
    if far.any():
        inverted = (await model.score(255 - images[far], [NEGATIVE_ELBO]))[NEGATIVE_ELBO]
        kinds[far] += inverted <= limit
    return texts[kinds]
