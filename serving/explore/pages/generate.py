"""The page Generate: new images of chosen classes, and the class of some images in the style of others."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nicegui import ui

from partedvae.model_results import ModelDetails
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.errors import errors_notified
from partedvae.serving.explore.integers import integer_of
from partedvae.serving.explore.pages.transfer import Transfer
from partedvae.serving.explore.pictures.png import fingerprint
from partedvae.serving.explore.widgets import address, card, class_options, image_size, page_shown, pixels
from partedvae.v1.manifest_pb2 import Factor

ANY, EACH = "", "*"
"""Values of a picker beside the classes: drawn from p(c), and one row per class."""
COUNTS = (4, 8, 12, 16)
SEEDS = 1_000_000
MOST_SEED = 2**53
"""Largest seed of the field: browsers have no larger integers."""


async def build(context: Context) -> None:
    """Add both parts."""
    assert context.model is not None
    details = context.model.details
    assert details is not None
    _add_generated(details)
    transfer = Transfer(context.model, details)
    await page_shown()
    with errors_notified():
        await transfer.start()


def _add_generated(details: ModelDetails) -> None:
    """Show a grid of images; its choices are in the URL of the page."""
    factors = details.manifest.factors
    query = ui.context.client.request.query_params
    chosen: dict[str, str] = {
        factor.name: _valid(query.get(f"class.{factor.name}"), factor, EACH if k == 0 else ANY)
        for k, factor in enumerate(factors)
    }
    state: dict[str, int] = {
        "seed": _integer(query.get("seed"), 0, MOST_SEED),
        "count": _nearest(_integer(query.get("count"), 8, COUNTS[-1])),
    }

    def redraw() -> None:
        rows = _rows(factors, chosen)
        width, height = image_size(details.manifest)
        shared = {"m": fingerprint(details), "seed": state["seed"], "count": state["count"]}
        grid.clear()
        with grid:
            for label, classes in rows:
                with ui.element("div").classes("pv-grid__row").props('role="listitem"'):
                    ui.label(label).classes("pv-grid__label")
                    source = address("/generate.png", **{"class": classes}, **shared, columns=state["count"])
                    pixels(source, f"{state['count']} new images: {label}", width=width * state["count"], height=height)
        each = next((name for name, value in chosen.items() if value == EACH), "")
        name = f"{details.name}-generated-{state['seed']}"
        download.props["href"] = address(
            "/generate.png", **{"class": _classes(chosen)}, **shared, each=each, labelled=1, download=name
        )
        download.update()
        ui.navigate.history.replace(address("/generate", **{f"class.{k}": v for k, v in chosen.items()}, **state))

    def choose(factor: str, value: str) -> None:
        chosen[factor] = value
        if value == EACH:
            for other in chosen:
                if other != factor and chosen[other] == EACH:
                    chosen[other] = ANY
                    pickers[other].value = ANY
        redraw()

    def change(name: str, value: float | None) -> None:
        # The field keeps to its range only when it loses the focus.
        if value is not None and 0 <= value <= MOST_SEED:
            state[name] = int(value)
            redraw()

    def another() -> None:
        seed.value = random.randrange(SEEDS)

    with card("Generate", "Images drawn for a class. The images of a column share their style z."):
        pickers: dict[str, ui.select] = {}
        with ui.element("div").classes("pv-controls"):
            for factor in factors:
                options = class_options(factor, {EACH: "each class", ANY: "any"})
                pickers[factor.name] = ui.select(
                    options,
                    value=chosen[factor.name],
                    label=factor.name,
                    on_change=lambda event, name=factor.name: choose(name, event.value),
                ).props("dense outlined options-dense")
            ui.select(
                list(COUNTS),
                value=state["count"],
                label="per row",
                on_change=lambda e: change("count", e.value),
            ).props("dense outlined options-dense")
            seed = ui.number(
                "seed",
                value=state["seed"],
                min=0,
                max=MOST_SEED,
                precision=0,
                on_change=lambda e: change("seed", e.value),
            )
            seed.props("dense outlined debounce=300")
            ui.button("Draw others", icon="casino", on_click=another).props("unelevated no-caps")
            download = ui.button("PNG", icon="download").props('outline no-caps tag=a aria-label="Download PNG"')
        grid = ui.element("div").classes("pv-grid").props('role="list" aria-label="Generated images"')
    redraw()


def _rows(factors: Sequence[Factor], chosen: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Return label and classes of each row."""
    fixed = _classes(chosen)
    for factor in factors:
        if chosen[factor.name] == EACH:
            return [(name, [*fixed, f"{factor.name}={name}"]) for name in factor.class_names]
    return [(", ".join(value.partition("=")[2] for value in fixed) or "any", fixed)]


def _classes(chosen: dict[str, str]) -> list[str]:
    return [f"{factor}={name}" for factor, name in chosen.items() if name not in (ANY, EACH)]


def _valid(value: str | None, factor: Factor, default: str) -> str:
    return value if value is not None and value in {ANY, EACH, *factor.class_names} else default


def _integer(text: str | None, default: int, largest: int) -> int:
    number = integer_of(text or "")
    return number if number is not None and number <= largest else default


def _nearest(count: int) -> int:
    return min(COUNTS, key=lambda known: abs(known - count))
