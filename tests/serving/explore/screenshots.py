"""Takes the screenshots of docs/EXPLORE.md.

    python -m tests.serving.explore.screenshots demo/models/mnist --output docs/explore --features demo/features.parquet

Each model gives NAME-look.png and so on; the first also gives them of a phone, dark. With features of the first model,
there is NAME-map.png, too. Images to label are some that the first model draws. With a folder of runs, the first two
are compared in runs.png.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect

from partedvae.common.atomic_write import atomic_write
from partedvae.common.click_paths import LocalPath
from partedvae.common.image_decoding import from_pixels
from partedvae.serving import load
from tests.serving.explore.explorer import PHONE, running_browser, running_explorer

WINDOW: ViewportSize = {"width": 1280, "height": 860}
TALL: ViewportSize = {"width": 1280, "height": 1240}
COLOURS = 128
"""Colours of a file: few enough for files of some ten kilobytes, and enough for what a page has."""
LASSO = 60
"""Radius of a lasso in pixels."""
DRAWN, LABELLED = 80, 6
"""Images to label, and those that are labelled."""
SEVEN = ((0.3, 0.24), (0.68, 0.24), (0.46, 0.78))
"""A drawing, as corners relative to the pad."""


def draw(page: Page) -> None:
    """Draw a seven on the pad of Look."""
    page.get_by_role("button", name="Clear the drawing").click()
    box = page.locator("canvas.pv-pad__canvas").bounding_box()
    assert box is not None
    points = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in SEVEN]
    page.mouse.move(*points[0])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(x, y, steps=10)
    page.mouse.up()


def example(page: Page) -> None:
    """Choose the fourth example of the page Look."""
    page.get_by_role("button", name="Example: ").nth(3).click()


def lasso(page: Page) -> None:
    """Draw a lasso in the map of u, around some point."""
    canvas = page.locator("canvas.pv-map__canvas").first
    page.wait_for_function("document.querySelectorAll('canvas[data-drawn]').length === 2")
    x, y = canvas.evaluate("canvas => canvas.pointMap.pixelOf(canvas.pointMap.points.order[5])")
    box = canvas.bounding_box()
    assert box is not None
    page.keyboard.down("Shift")
    for step in range(25):
        angle = 2 * math.pi * step / 24
        page.mouse.move(box["x"] + x + LASSO * math.cos(angle), box["y"] + y + LASSO * math.sin(angle))
        if step == 0:
            page.mouse.down()
    page.mouse.up()
    page.keyboard.up("Shift")
    page.locator(".pv-tile").first.wait_for()
    page.mouse.move(0, 0)


def choose_two(page: Page) -> None:
    """Choose the first two runs, and wait for their comparison."""
    for position in range(2):
        page.locator(".pv-runs .q-checkbox").nth(position).click()
    page.locator(".pv-comparison table").first.wait_for()
    page.mouse.move(0, 0)


def nothing(page: Page) -> None:
    """Leave the page as it opens."""


@click.command()
@click.argument("models", nargs=-1, type=LocalPath(exists=True, file_okay=False, path_type=Path))
@click.option("--output", required=True, type=LocalPath(path_type=Path), help="Folder of the pictures.")
@click.option("--features", help="Features of the first model, for the map.")
@click.option(
    "--runs", type=LocalPath(exists=True, file_okay=False, path_type=Path), help="Folder of runs, two or more."
)
def main(models: tuple[Path, ...], output: Path, features: str | None, runs: Path | None) -> None:
    """Take screenshots of the pages on MODELS; digits are drawn where a model has the classes 0 to 9."""
    output.mkdir(parents=True, exist_ok=True)
    with running_browser() as browser:
        for position, model in enumerate(models):
            shown = ("--features", features) if features is not None and position == 0 else ()
            with running_explorer("--model", model, *shown) as explorer:
                look = draw if "mnist" in model.name and "fashion" not in model.name else example
                pages: dict[str, Callable[[Page], None]] = {"look": look, "move": nothing, "generate": nothing}
                if shown:
                    pages["map"] = lasso
                for name, act in pages.items():
                    with _opened(browser, f"{explorer.url}/{name}", TALL if name == "map" else WINDOW, "light") as page:
                        _take(page, act, output / f"{model.name}-{name}.png")
                    if position == 0:
                        with _opened(browser, f"{explorer.url}/{name}", PHONE, "dark") as page:
                            _take(page, act, output / f"{model.name}-{name}-phone.png")
            if position == 0:
                _take_label(browser, model, output)
        if runs is not None:
            with running_explorer("--runs", runs) as explorer:
                for viewport, scheme, ending in ((TALL, "light", ""), (PHONE, "dark", "-phone")):
                    with _opened(browser, f"{explorer.url}/runs", viewport, scheme) as page:
                        _take(page, choose_two, output / f"runs{ending}.png")


def _take_label(browser: Browser, model: Path, output: Path) -> None:
    """Label some images that the model draws, and take screenshots of the page."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        drawn = load(model).generate(DRAWN, seed=0)
        factor, classes = next(iter(drawn.classes.items()))
        names = {f"{number:03}.png": classes[number] for number in range(DRAWN)}
        for name, pixels in zip(names, drawn.images, strict=True):
            from_pixels(pixels).save(folder / name)

        def label(page: Page) -> None:
            if len(drawn.classes) > 1:
                page.get_by_label("label", exact=True).first.click()
                page.get_by_role("option", name=factor, exact=True).click()
            expect(page.locator(".pv-label__note").first).to_contain_text("images are left", timeout=60_000)
            for _ in range(LABELLED):
                name = page.locator(".pv-label__file").inner_text()
                page.locator(f'.pv-key--class[data-value="{names[name]}"]').click()
                expect(page.locator(".pv-label__file")).not_to_have_text(name)
                page.wait_for_timeout(500)
            page.mouse.move(0, 0)

        options = ("--label", folder, "--model", model.resolve())
        with running_explorer(*options, folder=Path(temporary)) as explorer:
            for viewport, scheme, ending in ((WINDOW, "light", ""), (PHONE, "dark", "-phone")):
                with _opened(browser, f"{explorer.url}/label", viewport, scheme) as page:
                    _take(page, label, output / f"{model.name}-label{ending}.png")


@contextmanager
def _opened(browser: Browser, url: str, viewport: ViewportSize, scheme: str) -> Iterator[Page]:
    context = browser.new_context(viewport=viewport, color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("networkidle")
    yield page
    context.close()


def _take(page: Page, act: Callable[[Page], None], path: Path) -> None:
    act(page)
    page.wait_for_timeout(1000)  # Animations and pictures.
    page.wait_for_load_state("networkidle")
    # A map has so many shades that the median cut would merge the colours of its legend.
    method = Image.Quantize.MAXCOVERAGE if act is lasso else Image.Quantize.MEDIANCUT
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    with atomic_write(path) as temporary:
        picture.quantize(COLOURS, method, dither=Image.Dither.NONE).save(temporary, format="PNG", optimize=True)
    click.echo(path)


if __name__ == "__main__":
    main()
