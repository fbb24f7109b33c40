"""Transfer of attributes: images that join the z of some with the u of others, or of classes (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from partedvae.results import FloatArray, ImageArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.operations.latents import class_indices_of, factor_index, posterior_means, prior_modes, u_slice
from partedvae.serving.operations.plans import Decode, Plan
from partedvae.v1.manifest_pb2 import Manifest


@dataclass(frozen=True, kw_only=True, eq=False)
class StyleImages:
    """Images that give the posterior means of their u."""

    images: ImageArray
    """At the model's size."""
    factors: Sequence[str] = ()
    """Whose u is transferred; empty means all."""


@dataclass(frozen=True, kw_only=True)
class StyleClasses:
    """Classes that give the means of their p(u_k | c_k)."""

    choices: Sequence[Mapping[str, str]]
    """Each a style: class name by name of the factor whose u is transferred."""


Style: TypeAlias = StyleImages | StyleClasses


@dataclass(frozen=True, kw_only=True, eq=False)
class Transferred:
    """Images of joined attributes."""

    images: ImageArray
    """uint8 [contents, styles, height, width, channels]; [pairs, 1, height, width, channels] for pairs."""


def plan_transfer(
    manifest: Manifest, content: ImageArray, style: Style, *, pairs: bool, max_images: int
) -> Plan[Transferred]:
    """Plan a transfer.

    Args:
        manifest: the model's.
        content: images that give z, and u of the factors that are not transferred.
        style: what gives u of the others.
        pairs: whether the n-th content meets the n-th style alone, rather than each content each style.
        max_images: the limit of what is made.

    Raises:
        InvalidInputError: a factor or class does not exist, a style names none, pairs do not match, or there are too
            many.
    """
    count = len(style.images if isinstance(style, StyleImages) else style.choices)
    if not len(content) or not count:
        raise InvalidInputError(f"{len(content)} contents and {count} styles: give at least one of each")
    if pairs and len(content) != count:
        raise InvalidInputError(
            f"{len(content)} contents and {count} styles make no pairs: give as many of each, or ask for a grid"
        )
    made = count if pairs else len(content) * count
    if made > max_images:
        raise InvalidInputError(
            f"{len(content)} contents with {count} styles make {made} images, above the limit of {max_images}: "
            "send them in several requests"
        )
    taken = _taken(manifest, style)
    if isinstance(style, StyleImages):
        given = (yield from posterior_means(manifest, style.images)).u
    else:
        given = _class_means(manifest, style)
    kept = yield from posterior_means(manifest, content)
    if pairs:
        u, z = np.where(taken, given, kept.u)[:, np.newaxis], kept.z[:, np.newaxis]
    else:
        u = np.where(taken, given, kept.u[:, np.newaxis])
        z = np.repeat(kept.z[:, np.newaxis], count, axis=1)
    pixels: ImageArray = yield Decode(u.reshape(-1, u.shape[-1]), z.reshape(-1, z.shape[-1]))
    return Transferred(images=pixels.reshape(*u.shape[:2], *pixels.shape[1:]))


def _taken(manifest: Manifest, style: Style) -> NDArray[np.bool_]:
    """Return which dimensions of u come from the style, [styles, sum of u_dim], or [1, sum of u_dim] for images."""
    if isinstance(style, StyleImages):
        names: list[list[str]] = [list(style.factors) or [factor.name for factor in manifest.factors]]
    else:
        names = [list(choice) for choice in style.choices]
    taken = np.zeros((len(names), sum(factor.u_dim for factor in manifest.factors)), dtype=np.bool_)
    for i, chosen in enumerate(names):
        if not chosen:
            raise InvalidInputError(f"style {i} names no class: give it {{factor: class}} of at least one factor")
        for name in chosen:
            taken[i, u_slice(manifest, factor_index(manifest, name))] = True
    return taken


def _class_means(manifest: Manifest, style: StyleClasses) -> FloatArray:
    """Return u of each style, [styles, sum of u_dim]: the modes' means, 0 where its factors are not named."""
    given = np.zeros((len(style.choices), sum(factor.u_dim for factor in manifest.factors)), dtype=np.float32)
    for i, choice in enumerate(style.choices):
        for name, index in class_indices_of(manifest, choice).items():
            k = factor_index(manifest, name)
            given[i, u_slice(manifest, k)] = prior_modes(manifest.factors[k]).means[index]
    return given
