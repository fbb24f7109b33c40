"""The page Look: what the model sees in an image."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nicegui import ui

from partedvae.familiarity import INVERTED
from partedvae.model_results import ModelDetails
from partedvae.requests import FeatureName
from partedvae.results import Features, ImageArray
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.elements.bars import Gauge, LatentBar, LatentBars, ProbabilityBars
from partedvae.serving.explore.elements.image_input import ImageInput, VisitorPicture
from partedvae.serving.explore.errors import errors_notified
from partedvae.serving.explore.model import ModelAccess
from partedvae.serving.explore.pictures.latents import to_text
from partedvae.serving.explore.pictures.png import fingerprint
from partedvae.serving.explore.uploads import background, decode_upload, to_png
from partedvae.serving.explore.widgets import address, card, image_size, page_shown, pixels
from partedvae.serving.operations.latents import prior_modes
from partedvae.v1.manifest_pb2 import Factor

EXAMPLES = 12
"""Images that are offered: one per class of the first factor, and again in other styles."""
Z_REACH = 3.5
"""Ends of the axes of z, in standard deviations of the prior."""
USUAL = (0.05, 0.5, 0.95)
"""Shares of test images below the ends and the middle of the dark part of the scale of the negative ELBO."""
U_REACH = 2.0
"""Ends of the axes of u, beyond the outermost mode."""


async def build(context: Context) -> None:
    """Show an input for images, and what the model infers from the image."""
    model = context.model
    assert model is not None
    details = model.details
    assert details is not None
    await page_shown()
    drawn = await model.checked(model.call.generate(EXAMPLES, seed=0))
    looked = _Look(model, details, background(drawn.images))
    with errors_notified():
        first = details.manifest.factors[0].class_names[0] if details.manifest.factors else ""
        await looked.example(first, 0, only_first=True)


@dataclass(frozen=True)
class _Seen:
    """The image that is shown."""

    pixels: ImageArray
    features: Features


class _Look:
    """The elements of the page, of one visitor."""

    def __init__(self, model: ModelAccess, details: ModelDetails, paper: tuple[int, int, int]) -> None:
        """Add the elements, without an image."""
        self._model = model
        self._details = details
        self._manifest = details.manifest
        self._seen: _Seen | None = None
        self._one_at_a_time = asyncio.Lock()
        with ui.element("div").classes("pv-look"):
            with card("Image"):
                width, height = image_size(self._manifest)
                self._input = ImageInput(
                    self._on_file,
                    width=width,
                    height=height,
                    background=paper,
                    coloured=self._manifest.image.channels == 3,
                    max_bytes=lambda: model.limits.max_message_bytes,
                )
                self._add_examples()
            with ui.element("div").classes("pv-look__right"):
                self._add_seen()
                with ui.element("div").classes("pv-look__cards"):
                    self._add_classes()
                    self._add_latents()

    def _add_examples(self) -> None:
        first = self._manifest.factors[0] if self._manifest.factors else None
        names = list(first.class_names) if first else []
        ui.label("or take one that the model draws").classes("pv-look__or")
        width, height = image_size(self._manifest)
        with ui.element("div").classes("pv-examples"):
            for i in range(max(EXAMPLES, len(names)) if names else EXAMPLES):
                name, seed = (names[i % len(names)] if names else ""), i // max(1, len(names))
                source = address(
                    "/generate.png",
                    **{"class": f"{first.name}={name}" if first else ""},
                    seed=seed,
                    m=fingerprint(self._details),
                )
                button = ui.element("button").props("type=button")
                button.props["aria-label"] = f"Example: {name or i}"  # Not as a text of props, which is parsed.
                button.classes("pv-examples__one").on("click", lambda _, n=name, s=seed: self._on_example(n, s))
                with button:
                    pixels(source, "", width=width, height=height)

    def _add_seen(self) -> None:
        with card("What the model sees"), ui.element("div").classes("pv-seen"):
            with ui.element("div").classes("pv-pair"):
                with ui.element("figure"):
                    self._original = VisitorPicture("The image at the model's size")
                    with ui.element("figcaption"):
                        ui.label("image")
                with ui.element("figure"):
                    self._reconstruction = pixels("", "Reconstruction of the image", width=1, height=1)
                    self._reconstruction.visible = False
                    with ui.element("figcaption"):
                        ui.label("reconstruction")
            with ui.element("div"):
                self._add_score()
                self._move = ui.button("Move from here", icon="tune").classes("pv-look__links")
                self._move.props("outline no-caps tag=a href=/move")

    def _add_score(self) -> None:
        self._gauge: Gauge | None = None
        if self._details.has_scores:
            ui.label("Negative ELBO, in nats").classes("pv-look__score")
            self._gauge = Gauge("Negative ELBO")
            self._gauge_text = ui.label().classes("pv-card__hint")
        self._note = ui.element("div").classes("pv-note pv-note--warn").props('role="alert"')
        with self._note:
            ui.icon("warning").props('aria-hidden="true"')
            self._note_text = ui.label()
            self._invert = ui.button("Invert the image", icon="invert_colors", on_click=self._on_invert)
            self._invert.props("unelevated no-caps dense color=accent")
        self._note.visible = False

    def _add_classes(self) -> None:
        self._probabilities: dict[str, ProbabilityBars] = {}
        for factor in self._manifest.factors:
            with card(factor.name, "probability of each class"):
                self._probabilities[factor.name] = ProbabilityBars(
                    f"Probabilities of {factor.name}", factor.class_names
                )

    def _add_latents(self) -> None:
        if self._manifest.z_dim:
            with card("z", "style; the band is the prior"):
                self._z = LatentBars("z", -Z_REACH, Z_REACH)
        self._u: dict[str, LatentBars] = {}
        for factor in self._manifest.factors:
            modes = prior_modes(factor)
            ends = modes.means.min() - U_REACH, modes.means.max() + U_REACH
            with card(f"u of {factor.name}", "what the class says; the band is the prior of the most probable class"):
                self._u[factor.name] = LatentBars(f"u of {factor.name}", *map(float, ends))

    async def example(self, name: str, seed: int, *, only_first: bool = False) -> None:
        """Show an image that the model draws; with `only_first`, only if the visitor has given none."""
        classes = {self._manifest.factors[0].name: name} if name else None
        made = await self._model.checked(self._model.call.generate(1, classes=classes, seed=seed))
        if not (only_first and self._seen):
            self._input.paint(await self._show(made.images[0]), only_first=only_first)

    async def _on_example(self, name: str, seed: int) -> None:
        with errors_notified():
            await self.example(name, seed)

    async def _on_file(self, content: bytes, _: str) -> None:
        image = await asyncio.to_thread(decode_upload, content, self._details, self._model.limits)
        with errors_notified():
            await self._show(image)

    async def _on_invert(self) -> None:
        if self._seen is None:
            return
        with errors_notified():
            self._input.paint(await self._show(255 - self._seen.pixels))

    async def _show(self, image: ImageArray) -> str:
        """Show an image, uint8 [height, width, channels], and what the model infers from it; return its URL."""
        async with self._one_at_a_time:  # So that the newest is shown last.
            return await self._show_now(image)

    async def _show_now(self, image: ImageArray) -> str:
        include: list[FeatureName] = ["probs", "u_mean", "u_logvar", "z_mean", "z_logvar"]
        include += ["negative_elbo"] if self._details.has_scores else []
        include += ["unfamiliar"] if self._details.has_familiarity else []
        features = await self._model.checked(self._model.call.features(image[np.newaxis], include=include))
        self._seen = _Seen(image, features)
        source = self._original.show(to_png(image), image_size(self._manifest))
        self._show_reconstruction(features)
        self._show_familiarity(features)
        for factor, result in zip(self._manifest.factors, features.factors, strict=True):
            assert result.probs is not None
            self._probabilities[factor.name].show(result.probs[0].tolist())
            assert result.u_mean is not None
            assert result.u_logvar is not None
            self._u[factor.name].show(
                _bars(factor, int(result.class_indices[0]), result.u_mean[0], np.exp(0.5 * result.u_logvar[0]))
            )
        if self._manifest.z_dim:
            assert features.z is not None
            assert features.z_logvar is not None
            spread = np.exp(0.5 * features.z_logvar[0])
            self._z.show(
                [
                    LatentBar(label=f"z{d}", value=float(value), deviation=float(spread[d]), mean=0.0, spread=1.0)
                    for d, value in enumerate(features.z[0])
                ]
            )
        return source

    def _show_reconstruction(self, features: Features) -> None:
        assert features.z is not None
        latents = {"u": to_text(features.u[0]) if features.factors else "", "z": to_text(features.z[0])}
        classes = {f"class.{result.name}": str(result.classes[0]) for result in features}
        width, height = image_size(self._manifest)
        picture = self._reconstruction
        picture.props["src"] = address("/decode.png", **latents, m=fingerprint(self._details))
        picture.props["width"], picture.props["height"] = width, height
        picture.visible = True
        picture.update()
        self._move.props["href"] = address("/move", **latents, **classes)
        self._move.update()

    def _show_familiarity(self, features: Features) -> None:
        text = "" if features.unfamiliar is None else str(features.unfamiliar[0])
        self._note.visible = bool(text)
        self._invert.visible = text == INVERTED
        if text:
            advice = " It would be like them when inverted." if text == INVERTED else ""
            self._note_text.text = f"Unlike the training images: its classes may be wrong.{advice}"
        if self._gauge is None:
            return
        assert features.negative_elbo is not None
        value = float(features.negative_elbo[0])
        limit = self._manifest.familiar_negative_elbo if self._details.has_familiarity else None
        percentiles = list(self._manifest.negative_elbo_percentiles)
        usual = [percentiles[round(share * (len(percentiles) - 1))] for share in USUAL] if percentiles else []
        self._gauge.show(value, limit=limit, usual=usual)
        parts = [f"{value:.1f}"]
        if percentiles:
            parts.append(_rank(value, percentiles))
        if limit is not None:
            parts.append(f"images like the training images have at most {limit:.0f}")
        self._gauge_text.text = "; ".join(parts)


def _rank(value: float, percentiles: Sequence[float]) -> str:
    """Return where a score lies among those of test images.

    Args:
        value: the score.
        percentiles: of the scores of test images, from the smallest to the largest at equal steps.
    """
    if value > percentiles[-1]:
        return "higher than for every test image"
    if value < percentiles[0]:
        return "lower than for every test image"
    share = float(np.interp(value, percentiles, np.linspace(0, 100, len(percentiles))))
    return f"higher than for {share:.0f} % of the test images"


def _bars(factor: Factor, c: int, means: np.ndarray, deviations: np.ndarray) -> list[LatentBar]:
    """Return u of one image against the mode of its class."""
    modes = prior_modes(factor)
    return [
        LatentBar(
            label=f"u{d}",
            value=float(means[d]),
            deviation=float(deviations[d]),
            mean=float(modes.means[c, d]),
            spread=float(modes.deviations[c, d]),
        )
        for d in range(factor.u_dim)
    ]
