"""Browser tests of the page Map."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.bundles import COLOURED
from tests.processes import PATIENCE
from tests.serving.explore.explorer import (
    BOTH_SIZES,
    DESKTOP,
    PHONE,
    Explorer,
    checked_page,
    pixels_of,
    running_explorer,
)
from tests.serving.extraction import extract

pytestmark = pytest.mark.slow

COUNT = 120
IMAGES = COLOURED.random_images(COUNT)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images into a folder."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def explorer(pictures: Path, two_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """Run an explorer of the model `shapes` and the features of the pictures."""
    model, output = two_models / "shapes", tmp_path_factory.mktemp("features") / "features.parquet"
    result = extract(pictures, output, "--model", model, "--include", "class,u,z,negative_elbo,error")
    assert result.exit_code == 0, result.output
    with running_explorer("--model", model, "--features", output) as running:
        yield running


def open_map(page: Page, explorer: Explorer, query: str = "") -> None:
    page.goto(f"{explorer.url}/map{query}")
    for name in ("u", "z"):
        expect(map_of(page, name)).to_have_attribute("data-drawn", re.compile(r"\d+"))


def map_of(page: Page, name: str) -> Any:
    return page.get_by_label(f"Map of {name}", exact=True).locator("canvas")


def call(page: Page, name: str, expression: str, argument: Any = None) -> Any:
    """Evaluate an expression of `map`, a map of the page, and of `argument`."""
    script = f"(canvas, argument) => {{ const map = canvas.pointMap; return {expression}; }}"
    return map_of(page, name).evaluate(script, argument)


def place_of(page: Page, name: str, point: int) -> tuple[float, float]:
    """Return the place of a point on the page."""
    canvas = map_of(page, name)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = call(page, name, "map.pixelOf(argument)", point)
    return box["x"] + x, box["y"] + y


def drawn(page: Page, name: str) -> tuple[int, int]:
    """Return a hash of the pixels of a map, once it has drawn what it was told, and how many colours they have."""
    page.wait_for_timeout(100)
    script = """canvas => {
        const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let hash = 0;
        const colours = new Set();
        for (const pixel of new Uint32Array(bytes.buffer)) {
            hash = (Math.imul(hash, 31) + pixel) | 0;
            colours.add(pixel);
        }
        return [hash, colours.size];
    }"""
    hashed, colours = map_of(page, name).evaluate(script)
    return hashed, colours


def lonely_point(page: Page, name: str) -> int:
    """Return a point that no other one is close to on a map."""
    positions = np.array(call(page, name, "Array.from(map.points.positions)")).reshape(-1, 2)
    distances = np.linalg.norm(positions[:, np.newaxis] - positions, axis=-1)
    np.fill_diagonal(distances, np.inf)
    return int(distances.min(axis=1).argmax())


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_the_maps_show_all_images(explorer: Explorer, page: Page) -> None:
    open_map(page, explorer)

    expect(page.get_by_text("% of the variance")).to_have_count(2)
    assert [call(page, name, "map.points.placed") for name in ("u", "z")] == [COUNT, COUNT]
    boxes = [map_of(page, name).bounding_box() for name in ("u", "z")]
    beside = boxes[1]["x"] > boxes[0]["x"] + boxes[0]["width"]
    assert beside == (page.viewport_size == DESKTOP)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.evaluate("window.innerWidth"), "the page scrolls sideways"


@BOTH_SIZES
def test_a_point_that_is_clicked_shows_its_image(explorer: Explorer, page: Page) -> None:
    """And is highlighted in both maps; a click beside the points clears the selection."""
    open_map(page, explorer)
    point = lonely_point(page, "u")
    before = drawn(page, "z")
    x, y = place_of(page, "u", point)
    (page.touchscreen.tap if page.viewport_size == PHONE else page.mouse.click)(x, y)

    tile = page.locator(".pv-tile")
    expect(tile).to_have_attribute("data-point", str(point))
    expect(tile).to_contain_text(f"{point:03}.png")
    expected = np.concatenate([IMAGES[point], np.full((*IMAGES[point].shape[:2], 1), 255, dtype=np.uint8)], axis=-1)
    assert pixels_of(page, ".pv-tile img") == expected.tobytes()
    expect(page).to_have_url(re.compile(f"selected={point}$"))
    assert call(page, "z", "map.selection()") == [point]
    assert drawn(page, "z") != before
    box = map_of(page, "u").bounding_box()
    (page.touchscreen.tap if page.viewport_size == PHONE else page.mouse.click)(box["x"] + 3, box["y"] + 3)
    expect(tile).to_have_count(0)
    assert drawn(page, "z") == before


def test_a_lasso_shows_the_images_inside(explorer: Explorer, page: Page) -> None:
    open_map(page, explorer)
    page.get_by_role("button", name="Draw a lasso").click()
    map_of(page, "z").scroll_into_view_if_needed()
    box = map_of(page, "z").bounding_box()
    left, right = box["x"] + box["width"] / 2, box["x"] + box["width"] - 2
    top, bottom = box["y"] + 2, box["y"] + box["height"] - 2
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()

    positions = np.array(call(page, "z", "Array.from(map.points.positions)")).reshape(-1, 2)
    inside = np.flatnonzero(positions[:, 0] > 0).tolist()
    assert call(page, "u", "map.selection()") == inside
    expect(page.get_by_text(f"{len(inside)} points (")).to_contain_text("48 of them are shown")
    expect(page.locator(".pv-tile")).to_have_count(48)
    shown = [int(tile.get_attribute("data-point") or "") for tile in page.locator(".pv-tile").all()]
    assert set(shown) <= set(inside)
    page.get_by_role("button", name="Clear the selection").click()
    expect(page.locator(".pv-tile")).to_have_count(0)
    assert call(page, "u", "map.selection()") == []


@pytest.mark.exhaustive
def test_colours_and_selection_are_in_the_address(explorer: Explorer, page: Page) -> None:
    open_map(page, explorer, "?selected=4,9")
    expect(page.locator(".pv-tile")).to_have_count(2)
    expect(page.locator(".pv-legend__entry")).to_have_count(3)
    before = drawn(page, "u")
    choose(page, "colour", "Negative ELBO")

    expect(page.locator(".pv-legend__scale")).to_be_visible()
    expect(map_of(page, "u")).to_have_attribute("data-codes", re.compile("negative_elbo"))
    assert drawn(page, "u") != before
    coloured = drawn(page, "u")
    expect(page).to_have_url(re.compile("colour=score%3Anegative_elbo.*selected=4%2C9"))
    page.reload()
    expect(map_of(page, "u")).to_have_attribute("data-codes", re.compile("negative_elbo"))
    expect(page.locator(".pv-tile")).to_have_count(2)
    assert drawn(page, "u") == coloured


@pytest.mark.exhaustive
def test_classes_can_be_hidden(explorer: Explorer, desktop_page: Page) -> None:
    page = desktop_page
    open_map(page, explorer)
    before = drawn(page, "u")
    for entry in page.locator(".pv-legend__entry").all():
        entry.click()
        expect(entry).to_have_attribute("aria-pressed", "false")
    assert drawn(page, "u")[1] == 1, "points are visible"
    for entry in page.locator(".pv-legend__entry").all():
        entry.click()
    assert drawn(page, "u") == before


@pytest.mark.exhaustive
def test_maps_move_by_mouse_and_keys(explorer: Explorer, desktop_page: Page) -> None:
    """Hovering shows the image; Enter selects the point at the centre, and Escape clears the selection."""
    page = desktop_page
    open_map(page, explorer)
    point = lonely_point(page, "u")
    x, y = place_of(page, "u", point)
    page.mouse.move(x, y)
    expect(page.locator(".pv-map__hint")).to_contain_text(f"{point:03}.png")
    expect(page.locator(".pv-map__hint img")).to_be_visible()
    page.mouse.wheel(0, -600)
    assert call(page, "u", "map.view.zoom") > 3
    # The place of a wheel is in whole pixels.
    across, down = place_of(page, "u", point)
    assert (across, down) == pytest.approx((x, y), abs=call(page, "u", "map.view.zoom"))
    page.mouse.down()
    page.mouse.move(x + 50, y - 20, steps=3)
    page.mouse.up()
    assert place_of(page, "u", point) == pytest.approx((across + 50, down - 20), abs=2)
    expect(page.locator(".pv-tile")).to_have_count(0)

    map_of(page, "u").focus()
    page.keyboard.press("ArrowLeft")
    assert place_of(page, "u", point) == pytest.approx((across + 90, down - 20), abs=2)
    page.keyboard.press("0")
    assert place_of(page, "u", point) == pytest.approx((x, y), abs=1)
    page.keyboard.press("Enter")
    expect(page.locator(".pv-tile")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".pv-tile")).to_have_count(0)


@pytest.mark.exhaustive
def test_two_fingers_zoom(explorer: Explorer, browser: Browser) -> None:
    with checked_page(browser, PHONE) as page:
        open_map(page, explorer)
        script = """canvas => {
            const box = canvas.getBoundingClientRect();
            const send = (type, id, x) => canvas.dispatchEvent(new PointerEvent(type, {
                pointerId: id, pointerType: "touch", clientX: box.left + x, clientY: box.top + 100, button: 0,
            }));
            canvas.setPointerCapture = () => {};
            send("pointerdown", 1, 100); send("pointerdown", 2, 140);
            send("pointermove", 1, 60); send("pointermove", 2, 180);
            send("pointerup", 1, 60); send("pointerup", 2, 180);
            return canvas.pointMap.view.zoom;
        }"""
        assert map_of(page, "u").evaluate(script) == pytest.approx(3, rel=0.05)
        expect(page.locator(".pv-tile")).to_have_count(0)


@pytest.mark.exhaustive
def test_tsne_is_computed_in_the_background(explorer: Explorer, desktop_page: Page) -> None:
    """The map changes when it is done, and it is there at once after a reload."""
    page = desktop_page
    open_map(page, explorer)
    before = call(page, "u", "Array.from(map.points.positions)")
    choose(page, "projection", "t-SNE")
    expect(page.locator(".pv-progress")).to_contain_text("t-SNE of")
    expect(page.get_by_text("t-SNE", exact=True).locator("visible=true")).to_have_count(3, timeout=2000 * PATIENCE)

    after = call(page, "u", "Array.from(map.points.positions)")
    assert np.abs(np.subtract(after, before)).mean() > 0.05
    expect(page.locator(".pv-progress")).to_be_hidden()
    page.reload()
    expect(map_of(page, "u")).to_have_attribute("data-positions", re.compile("method=tsne"))
    assert call(page, "u", "Array.from(map.points.positions)") == after


@pytest.mark.exhaustive
def test_a_computation_can_be_cancelled(explorer: Explorer, desktop_page: Page) -> None:
    """The map shows PCA before and after, also where the address asks for t-SNE."""
    page = desktop_page
    open_map(page, explorer, "?u=u:shape&method=tsne")
    expect(page.get_by_label("Map of u", exact=True)).to_contain_text("% of the variance")
    page.get_by_role("button", name="Cancel").click()

    expect(page.locator(".pv-progress")).to_be_hidden()
    expect(page.get_by_label("projection", exact=True)).to_have_value("PCA")


@pytest.mark.exhaustive
def test_two_visitors_do_not_see_each_other(explorer: Explorer, browser: Browser) -> None:
    with checked_page(browser, DESKTOP) as first, checked_page(browser, DESKTOP) as second:
        open_map(first, explorer)
        open_map(second, explorer)
        first.mouse.click(*place_of(first, "u", lonely_point(first, "u")))
        expect(first.locator(".pv-tile")).to_have_count(1)
        assert call(second, "u", "map.selection()") == []
        expect(second.locator(".pv-tile")).to_have_count(0)


@pytest.mark.exhaustive
def test_features_without_z_and_without_a_model(two_models: Path, tmp_path: Path, browser: Browser) -> None:
    """The page says what is missing, and how to get it."""
    np.save(tmp_path / "images.npy", IMAGES[:20])
    output = tmp_path / "features.csv"
    assert extract(tmp_path / "images.npy", output, "--model", two_models / "shapes").exit_code == 0
    with running_explorer("--features", output) as running, checked_page(browser, PHONE) as page:
        page.goto(f"{running.url}/map?method=tsne&selected=3")
        expect(page.get_by_text(f"{output} has no z: run 'partedvae extract' again with --include")).to_be_visible()
        expect(page.locator(".pv-tile")).to_have_count(1)
        expect(page.locator(".pv-tile img")).to_have_count(0)
        expect(page.get_by_text("the file does not say which images it was made of; pass --images")).to_be_visible()
        page.goto("about:blank")
