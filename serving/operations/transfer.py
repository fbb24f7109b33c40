"""Transfer of attributes: images that combine z of some images with u of others, or of classes (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from partedvae.image_results import Transferred
from partedvae.results import FloatArray, ImageArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.images import DEFAULT_LIMITS
from partedvae.serving.operations.latents import class_indices_of, factor_index, posterior_means, prior_modes, u_slice
from partedvae.serving.operations.model import Model
from partedvae.v1.manifest_pb2 import Manifest


@dataclass(frozen=True, kw_only=True, eq=False)
class StyleImages:
    """Images whose posterior means of u are transferred."""

    images: ImageArray
    """uint8 [images, height, width, channels] at the model's size."""
    factors: Sequence[str] = ()
    """Names of the factors whose u is transferred; empty means all."""


@dataclass(frozen=True, kw_only=True)
class StyleClasses:
    """Classes whose means of p(u_k | c_k) are transferred."""

    choices: Sequence[Mapping[str, str]]
    """One entry per style: class name by name of the factor whose u is transferred."""


Style: TypeAlias = StyleImages | StyleClasses


async def transfer(
    model: Model,
    content: ImageArray,
    style: Style,
    *,
    pairs: bool = False,
    max_images: int = DEFAULT_LIMITS.max_images,
) -> Transferred:
    """Return images that combine z of `content` with u of `style` (paper Figure 5).

    Args:
        model: the model to run.
        content: images whose z is used, and whose u is kept for factors that are not transferred.
        style: images or classes whose u is transferred.
        pairs: combine the n-th content with the n-th style only, instead of every content with every style.
        max_images: the largest number of images to return.

    Raises:
        InvalidInputError: a factor or class does not exist, a style names no class, the lengths of pairs differ, or
            there are more than `max_images`.
    """
    manifest = model.manifest
    count = len(style.images if isinstance(style, StyleImages) else style.choices)
    if not len(content) or not count:
        raise InvalidInputError(f"{len(content)} contents and {count} styles: pass at least one of each")
    if pairs and len(content) != count:
        raise InvalidInputError(
            f"{len(content)} contents and {count} styles cannot be paired: pass as many of each, or request a grid"
        )
    made = count if pairs else len(content) * count
    if made > max_images:
        raise InvalidInputError(
            f"{len(content)} contents with {count} styles make {made} images, above the limit of {max_images}: "
            "send them in several requests"
        )
    transferred = _transferred_dimensions(manifest, style)
    if isinstance(style, StyleImages):
        style_u = (await posterior_means(model, style.images)).u
    else:
        style_u = _class_means(manifest, style)
    kept = await posterior_means(model, content)
    if pairs:
        u, z = np.where(transferred, style_u, kept.u)[:, np.newaxis], kept.z[:, np.newaxis]
    else:
        u = np.where(transferred, style_u, kept.u[:, np.newaxis])
        z = np.repeat(kept.z[:, np.newaxis], count, axis=1)
    pixels = await model.decode(u.reshape(-1, u.shape[-1]), z.reshape(-1, z.shape[-1]))
    return Transferred(images=pixels.reshape(*u.shape[:2], *pixels.shape[1:]), model=model.name, version=model.version)


def _transferred_dimensions(manifest: Manifest, style: Style) -> NDArray[np.bool_]:
    """Return a mask of the dimensions of u that come from the style.

    Its shape is [styles, sum of u_dim] for classes, and [1, sum of u_dim] for images.
    """
    if isinstance(style, StyleImages):
        names: list[list[str]] = [list(style.factors) or [factor.name for factor in manifest.factors]]
    else:
        names = [list(choice) for choice in style.choices]
    mask = np.zeros((len(names), sum(factor.u_dim for factor in manifest.factors)), dtype=np.bool_)
    for i, chosen in enumerate(names):
        if not chosen:
            raise InvalidInputError(f"style {i} names no class: pass {{factor: class}} of at least one factor")
        for name in chosen:
            mask[i, u_slice(manifest, factor_index(manifest, name))] = True
    return mask


def _class_means(manifest: Manifest, style: StyleClasses) -> FloatArray:
    """Return u of each style, [styles, sum of u_dim]: the means of its modes, and 0 for other factors."""
    means = np.zeros((len(style.choices), sum(factor.u_dim for factor in manifest.factors)), dtype=np.float32)
    for i, choice in enumerate(style.choices):
        for name, index in class_indices_of(manifest, choice).items():
            k = factor_index(manifest, name)
            means[i, u_slice(manifest, k)] = prior_modes(manifest.factors[k]).means[index]
    return means
