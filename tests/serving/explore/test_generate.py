"""Browser tests of the page Generate, and of its part Transfer."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from playwright.sync_api import FilePayload, Page, expect

from partedvae.results import FloatArray
from tests.bundles import GREY
from tests.serving.explore.explorer import BOTH_SIZES, Explorer, pixels_of, png
from tests.serving.explore.test_pictures import read

pytestmark = pytest.mark.slow

GRID = ".pv-transfer img:nth-child(4)"


@BOTH_SIZES
def test_one_row_per_class(grey_explorer: Explorer, page: Page) -> None:
    page.goto(f"{grey_explorer.url}/generate")

    expect(page.locator(".pv-grid__label")).to_have_text(list("0123456789"))
    first = page.locator(".pv-grid__row img").first
    assert first.evaluate("async image => { await image.decode(); return image.naturalWidth; }") == 8 * 6


def test_another_seed_gives_other_images_and_is_in_the_address(grey_explorer: Explorer, page: Page) -> None:
    page.goto(f"{grey_explorer.url}/generate?seed=5&count=4")
    before = pixels_of(page, ".pv-grid__row img")

    page.get_by_label("seed").fill("6")
    expect(page).to_have_url(f"{grey_explorer.url}/generate?class.digit=%2A&seed=6&count=4")
    assert pixels_of(page, ".pv-grid__row img") != before


@pytest.mark.parametrize("given", ["-6", "1e30"])
def test_a_seed_out_of_range_draws_nothing(grey_explorer: Explorer, desktop_page: Page, given: str) -> None:
    """Before the field is left, which then has a seed in its range."""
    page = desktop_page
    page.goto(f"{grey_explorer.url}/generate?seed=5&count=4")
    before = page.locator(".pv-grid__row img").first.get_attribute("src")
    page.get_by_label("seed").fill(given)
    page.wait_for_timeout(1000)  # Longer than the field waits for further digits.
    assert page.locator(".pv-grid__row img").first.get_attribute("src") == before


def test_numbers_of_thousands_of_digits_are_left_out(grey_explorer: Explorer) -> None:
    assert httpx.get(f"{grey_explorer.url}/generate?seed={'9' * 5000}&count={'1' * 5000}").status_code == 200


@pytest.mark.exhaustive
def test_pictures_of_several_factors(coloured_explorer: Explorer, page: Page) -> None:
    """The rows are the classes of one factor, each combined with the chosen class of the other."""
    page.goto(f"{coloured_explorer.url}/generate?class.shape=*&class.colour=blue&seed=2&count=4")

    expect(page.locator(".pv-grid__label")).to_have_text(["square", "ellipse", "heart"])
    source = page.locator(".pv-grid__row img").nth(2).get_attribute("src")
    assert source is not None
    response = httpx.get(f"{coloured_explorer.url}{source}")
    expected = httpx.get(f"{coloured_explorer.url}/generate.png?class=heart&class=blue&seed=2&count=4")
    assert response.content == expected.content
    download = page.get_by_role("link", name="Download PNG").get_attribute("href")
    whole = read(httpx.get(f"{coloured_explorer.url}{download}").content)
    assert whole.shape[0] > 3 * 60


def cells(page: Page, columns: int) -> FloatArray:
    """Return the grey images of the grid of a transfer, [rows, columns, height, width]."""
    pixels = np.frombuffer(pixels_of(page, GRID), np.uint8).reshape(columns * 8, columns * 6, 4)[..., 0]
    grid: FloatArray = pixels.reshape(columns, 8, columns, 6).swapaxes(1, 2).astype(np.float32)
    return grid


def test_transfer_of_own_images(grey_explorer: Explorer, page: Page) -> None:
    """Rows keep u and columns z: each cell is decoded from the u of one image and the z of another."""
    page.goto(f"{grey_explorer.url}/generate")
    expect(page.locator(GRID)).to_have_attribute("width", str(4 * 6))
    for count in (3, 2, 1):
        page.get_by_role("button", name="Remove the last").click()
        expect(page.locator(GRID)).to_have_attribute("width", str(count * 6))
    images = GREY.random_images(2, seed=7)
    files: list[FilePayload] = [
        {"name": f"{i}.png", "mimeType": "image/png", "buffer": png(image)} for i, image in enumerate(images)
    ]
    page.locator("input[type=file]").set_input_files(files)
    expect(page.locator(GRID)).to_have_attribute("width", str(3 * 6))

    encoded = GREY.encode(images)
    grid = cells(page, 3)
    for row in range(2):
        for column in range(2):
            u, z = encoded["digit.u_mean"][row : row + 1], encoded["z_mean"][column : column + 1]
            assert np.abs(grid[row + 1, column + 1] - GREY.decode(u, z)[0, ..., 0]).max() <= 1


@pytest.mark.exhaustive
def test_the_grid_of_a_transfer_is_downloaded(grey_explorer: Explorer, page: Page) -> None:
    """With the images above and at the left; and it has no more than eight."""
    page.goto(f"{grey_explorer.url}/generate")
    for count in range(5, 9):
        page.get_by_role("button", name="Add an example").click()
        expect(page.locator(GRID)).to_have_attribute("width", str(count * 6))
    page.get_by_role("button", name="Add an example").click()
    expect(page.get_by_text("the grid has 8 images, which is the limit; remove one first")).to_be_visible()

    with page.expect_download() as download:
        page.get_by_role("link", name="Download the grid as PNG").click()
    assert download.value.suggested_filename == "tiny-transfer.png"
    assert read(download.value.path().read_bytes()).shape[0] > 9 * 64


@pytest.mark.exhaustive
def test_transfer_of_one_factor(coloured_explorer: Explorer, page: Page) -> None:
    """The other keeps the u of the column's image, so that the grid changes."""
    page.goto(f"{coloured_explorer.url}/generate")
    expect(page.locator(GRID)).to_have_attribute("width", str(4 * 12))
    before, source = pixels_of(page, GRID), page.locator(GRID).get_attribute("src")

    page.get_by_label("u of").click()
    page.get_by_role("option", name="colour").click()
    expect(page.locator(GRID)).not_to_have_attribute("src", source or "")
    assert pixels_of(page, GRID) != before
