"""Sliders for every u and z with the image that they give. Moving one asks the server for the picture directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from partedvae.model_results import ModelDetails
from partedvae.serving.explore.pictures.png import fingerprint
from partedvae.serving.operations.latents import prior_modes, u_slice
from partedvae.v1.manifest_pb2 import Manifest

REACH = 3.0
"""Ends of the sliders, in standard deviations of the prior."""
DIGITS = 4


class Mover(ui.element, component="mover.js"):
    """The sliders, the picture, and strips along every dimension.

    Nothing of a movement goes through the websocket: the browser asks for `/decode.png` itself, one picture at a time,
    and then for the newest.
    """

    def __init__(
        self, details: ModelDetails, *, u: Sequence[float] | None, z: Sequence[float] | None, classes: Mapping[str, str]
    ) -> None:
        """Add the element.

        Args:
            details: the model.
            u: where the sliders of u start; None for the modes of `classes`.
            z: where those of z start; None for zero.
            classes: class name by factor name; the first class of each factor that is missing.
        """
        super().__init__()
        manifest = details.manifest
        self._props["model"] = details.name
        self._props["fingerprint"] = fingerprint(details)
        self._props["width"] = manifest.image.width
        self._props["height"] = manifest.image.height
        self._props["factors"] = _factors(manifest)
        self._props["z-dim"] = manifest.z_dim
        self._props["reach"] = REACH
        self._props["start"] = {
            "u": None if u is None else list(u),
            "z": None if z is None else list(z),
            "classes": dict(classes),
        }


def _factors(manifest: Manifest) -> list[dict[str, Any]]:
    """Return each factor with the modes of its u, and the range of its sliders: all modes with their tails."""
    factors = []
    for k, factor in enumerate(manifest.factors):
        means, deviations = prior_modes(factor)
        factors.append(
            {
                "name": factor.name,
                "classes": list(factor.class_names),
                "prior": list(factor.prior_probs),
                "first": u_slice(manifest, k).start,
                "means": means.round(DIGITS).tolist(),
                "deviations": deviations.round(DIGITS).tolist(),
                "low": (means - REACH * deviations).min(axis=0).round(1).tolist(),
                "high": (means + REACH * deviations).max(axis=0).round(1).tolist(),
            }
        )
    return factors
