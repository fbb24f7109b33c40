"""Browser tests of the page Move."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from partedvae.results import FloatArray, ImageArray
from tests.bundles import COLOURED, GREY
from tests.serving.explore.explorer import BOTH_SIZES, Explorer, pixels_of
from tests.serving.explore.test_pictures import read

pytestmark = pytest.mark.slow

IMAGE = ".pv-mover__image"


def state(page: Page) -> tuple[FloatArray, FloatArray]:
    """Return u and z of the URL of the page, [1, dimensions]."""
    query = parse_qs(urlsplit(page.url).query)
    u, z = (np.array([[float(value) for value in query[name][0].split(",")]], np.float32) for name in "uz")
    return u, z


def shown(page: Page) -> ImageArray:
    """Return the grey pixels of the image on the page."""
    image: ImageArray = np.frombuffer(pixels_of(page, IMAGE), np.uint8).reshape(8, 6, 4)[..., 0]
    return image


@pytest.fixture
def move(grey_explorer: Explorer, page: Page) -> Page:
    """Open the page, whose image has loaded."""
    page.goto(f"{grey_explorer.url}/move")
    expect(page.locator(".pv-strip img")).to_have_count(3)
    return page


@BOTH_SIZES
def test_the_image_follows_a_slider(move: Page) -> None:
    """With the mouse and by keys; the URL of the page follows, and gives the same image."""
    before = shown(move)
    slider = move.get_by_label("z1")
    box = slider.bounding_box()
    assert box is not None
    move.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    move.mouse.down()
    move.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2, steps=6)
    move.mouse.up()
    slider.press("ArrowRight")

    value = float(slider.input_value())
    assert value > 1.5
    move.wait_for_function("value => new URL(location).searchParams.get('z')?.split(',')[1] == value", arg=value)
    move.wait_for_load_state("networkidle")
    u, z = state(move)
    assert (shown(move) != before).any()
    assert np.abs(shown(move).astype(int) - GREY.decode(u, z)[0, ..., 0]).max() <= 1


def test_a_class_sets_u_to_its_mode(move: Page) -> None:
    move.get_by_role("radio", name="7").click()

    means = np.array(GREY.manifest().factors[0].prior_means).reshape(10, 3)[7]
    expect(move.get_by_label("digit u0")).to_have_value(f"{means[0]:g}")
    expect(move.get_by_role("radio", name="7")).to_have_attribute("aria-checked", "true")
    move.wait_for_url("**class.digit=7")
    np.testing.assert_allclose(state(move)[0][0], means)


def test_the_address_keeps_the_state(move: Page) -> None:
    """Also when it is loaded again; reset goes back to the mode and to zero."""
    move.get_by_role("radio", name="3").click()
    move.get_by_role("button", name="Random").click()
    move.wait_for_function("new URL(location).searchParams.get('z')?.split(',').every((value) => +value !== 0)")
    move.wait_for_load_state("networkidle")
    url, pixels = move.url, pixels_of(move, IMAGE)
    move.reload()
    expect(move.locator(".pv-strip img")).to_have_count(3)
    assert move.url == url
    assert pixels_of(move, IMAGE) == pixels

    move.get_by_role("button", name="Reset").click()
    move.wait_for_function("new URL(location).searchParams.get('z') === '0,0,0,0'")


def test_random_classes_follow_their_prior(move: Page) -> None:
    """p(c) of class k is (k + 1) / 55, and the middle of all is in that of the seventh class."""
    move.evaluate("Math.random = () => 0.5")
    move.get_by_role("button", name="Random").click()

    expect(move.get_by_role("radio", name="6")).to_have_attribute("aria-checked", "true")


def test_strips(move: Page) -> None:
    """Every class, and nine steps of every dimension; a click goes there."""
    sizes = move.locator(".pv-strip img").evaluate_all(
        "async images => { await Promise.all(images.map((image) => image.decode()));"
        "return images.map((image) => [image.naturalWidth / 6, image.naturalHeight / 8]); }"
    )
    assert sizes == [[10, 1], [9, 3], [9, 4]]
    strip = move.locator(".pv-strip img").nth(2)
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    assert box is not None
    strip.click(position={"x": box["width"] * 8.5 / 9, "y": box["height"] * 1.5 / 4})
    expect(move.get_by_label("z1")).to_have_value("2.5")


@pytest.mark.exhaustive
def test_the_download_is_the_image(move: Page, grey_explorer: Explorer) -> None:
    href = move.get_by_role("link", name="Download PNG").get_attribute("href")

    response = httpx.get(f"{grey_explorer.url}{href}")
    assert response.headers["content-disposition"] == 'attachment; filename="tiny-decoded.png"'
    large = read(response.content)
    assert large.shape == (8 * 32, 6 * 32)
    np.testing.assert_array_equal(large[::32, ::32], shown(move))


@pytest.mark.exhaustive
def test_an_address_of_another_model(grey_explorer: Explorer, page: Page) -> None:
    """The page opens without it, and says so."""
    page.goto(f"{grey_explorer.url}/move?u=1,2")

    expect(page.get_by_text("u has 2 numbers; the model has 3 dimensions of u")).to_be_visible()
    expect(page.locator(".pv-strip img")).to_have_count(3)


@pytest.mark.exhaustive
def test_several_factors_in_colour(coloured_explorer: Explorer, page: Page) -> None:
    """Each factor has its classes, and u is in the model's order."""
    page.goto(f"{coloured_explorer.url}/move")
    page.get_by_role("radio", name="blue").click()
    page.wait_for_url("**class.colour=blue")
    page.wait_for_load_state("networkidle")

    shape, colour = COLOURED.manifest().factors
    expected = np.array([[*shape.prior_means[:2], colour.prior_means[1]]], np.float32)
    np.testing.assert_allclose(state(page)[0], expected)
    image = np.frombuffer(pixels_of(page, IMAGE), np.uint8).reshape(10, 12, 4)[..., :3].astype(int)
    assert np.abs(image - COLOURED.decode(expected, np.zeros((1, 5), np.float32))[0]).max() <= 1
    expect(page.locator(".pv-strip img")).to_have_count(5)
