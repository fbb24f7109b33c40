"""Transfer of attributes: images that combine u of some images, or of classes, with z of others (Figure 5)."""

from __future__ import annotations

import dataclasses
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
class ImagesOfU:
    """Images that give the posterior means of their u."""

    images: ImageArray
    """uint8 [images, height, width, channels] at the model's size."""
    factors: Sequence[str] = ()
    """Names of the factors whose u they give; empty means all."""


@dataclass(frozen=True, kw_only=True)
class ClassesOfU:
    """Classes that give the means of p(u_k | c_k)."""

    choices: Sequence[Mapping[str, str]]
    """One entry per row: class name by name of the factor whose u it gives."""


SourceOfU: TypeAlias = ImagesOfU | ClassesOfU


async def transfer(
    model: Model,
    z_images: ImageArray,
    source: SourceOfU,
    *,
    pairs: bool = False,
    max_images: int = DEFAULT_LIMITS.max_images,
) -> Transferred:
    """Return images that combine u of `source` with z of `z_images`, laid out as in the paper's Figure 5.

    The class and the class-related u of a row are preserved; the class-independent z, the style, is transferred from
    the image of the column (paper section 5.2).

    Args:
        model: the model to run.
        z_images: images that give z, and u of the factors that `source` does not give; uint8 [images, height, width,
            channels] at the model's size.
        source: images or classes that give u.
        pairs: combine the n-th u with the n-th z only, instead of every u with every z.
        max_images: the largest number of images to return.

    Returns:
        Images in one row per u and one column per z; with `pairs`, in one column.

    Raises:
        InvalidInputError: a factor or class does not exist, a choice names no class, the lengths of pairs differ, or
            there are more than `max_images`.
    """
    manifest = model.manifest
    columns, rows = len(z_images), len(source.images if isinstance(source, ImagesOfU) else source.choices)
    counts = f"{rows} {'images' if isinstance(source, ImagesOfU) else 'classes'} for u and {columns} images for z"
    if not rows or not columns:
        raise InvalidInputError(f"{counts}: pass at least one of each")
    if pairs and rows != columns:
        raise InvalidInputError(f"{counts} cannot be paired: pass as many of each, or request a grid")
    made = rows if pairs else rows * columns
    if made > max_images:
        raise InvalidInputError(
            f"{counts} make {made} images, above the limit of {max_images}: send them in several requests"
        )
    model.reserve_images(made)
    given = _given_dimensions(manifest, source)
    if isinstance(source, ImagesOfU):
        source_u = (await posterior_means(model, source.images)).u
    else:
        source_u = _class_means(manifest, source)
    kept = await posterior_means(model, z_images)
    if pairs:
        u, z = np.where(given, source_u, kept.u)[:, np.newaxis], kept.z[:, np.newaxis]
    else:
        u = np.where(given[:, np.newaxis], source_u[:, np.newaxis], kept.u)
        z = np.repeat(kept.z[np.newaxis], rows, axis=0)
    pixels = await model.decode(u.reshape(-1, u.shape[-1]), z.reshape(-1, z.shape[-1]))
    return Transferred(images=pixels.reshape(*u.shape[:2], *pixels.shape[1:]), model=model.name, version=model.version)


def transposed(transferred: Transferred) -> Transferred:
    """Return a grid with one row per z and one column per u: the layout of requests of version 0.2 and earlier."""
    return dataclasses.replace(transferred, images=transferred.images.swapaxes(0, 1))


def _given_dimensions(manifest: Manifest, source: SourceOfU) -> NDArray[np.bool_]:
    """Return a mask of the dimensions of u that the source gives.

    Its shape is [choices, sum of u_dim] for classes, and [1, sum of u_dim] for images.
    """
    if isinstance(source, ImagesOfU):
        names: list[list[str]] = [list(source.factors) or [factor.name for factor in manifest.factors]]
    else:
        names = [list(choice) for choice in source.choices]
    mask = np.zeros((len(names), sum(factor.u_dim for factor in manifest.factors)), dtype=np.bool_)
    for i, chosen in enumerate(names):
        if not chosen:
            raise InvalidInputError(f"entry {i} of the classes is empty: pass {{factor: class}} of at least one factor")
        for name in chosen:
            mask[i, u_slice(manifest, factor_index(manifest, name))] = True
    return mask


def _class_means(manifest: Manifest, source: ClassesOfU) -> FloatArray:
    """Return u of each choice, [choices, sum of u_dim]: the means of its modes, and 0 for other factors."""
    means = np.zeros((len(source.choices), sum(factor.u_dim for factor in manifest.factors)), dtype=np.float32)
    for i, choice in enumerate(source.choices):
        for name, index in class_indices_of(manifest, choice).items():
            k = factor_index(manifest, name)
            means[i, u_slice(manifest, k)] = prior_modes(manifest.factors[k]).means[index]
    return means
