"""Browser tests of the page Look: every way to give an image, and what is shown of it."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from partedvae.results import ImageArray
from tests.bundles import COLOURED
from tests.familiar import IMAGES, INVERTED_SCORES, MODEL, SCORES
from tests.serving.explore.explorer import BOTH_SIZES, DESKTOP, Explorer, checked_page, pixels_of, png

pytestmark = pytest.mark.slow

INVERTED = 3
"""Position in IMAGES of an image that is like the training images when inverted."""
CANVAS = "canvas.pv-pad__canvas"
ORIGINAL, RECONSTRUCTION = ".pv-pair figure:nth-child(1) img", ".pv-pair figure:nth-child(2) img"


def choose(page: Page, content: bytes, name: str = "image.png") -> None:
    """Choose an image file."""
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def best_class(page: Page) -> str:
    """Return name and probability of the class that is marked."""
    return page.locator(".pv-bars__row--best").first.inner_text().replace("\n", " ")


def expect_class(page: Page, image: ImageArray) -> None:
    """Wait until the page shows the class of an image, with its probability."""
    probs = MODEL.encode(image[np.newaxis])["digit.probs"][0]
    best = page.locator(".pv-bars__row--best")
    expect(best.locator(".pv-bars__name")).to_have_text(str(probs.argmax()))
    expect(best.locator(".pv-bars__text")).to_have_text(f"{probs.max() * 100:.1f} %")


@pytest.fixture
def look(grey_explorer: Explorer, page: Page) -> Page:
    """Open the page, which has shown its first example."""
    page.goto(f"{grey_explorer.url}/look")
    expect(page.locator(RECONSTRUCTION)).to_be_visible()
    return page


def test_an_image_file(look: Page) -> None:
    """Classes, u and z are those of the model, and so is the reconstruction."""
    image = IMAGES[0]
    choose(look, png(image))

    expect_class(look, image)
    encoded = MODEL.encode(image[np.newaxis])
    z = [f"{value:.2f}" for value in encoded["z_mean"][0]]
    u = [f"{value:.2f}" for value in encoded["digit.u_mean"][0]]
    expect(look.locator(".pv-latents__text")).to_have_text([*z, *u])
    expect(look.get_by_text(f"{SCORES[0]:.1f}; images like the training images have at most 23")).to_be_visible()
    shown = np.frombuffer(pixels_of(look, ORIGINAL), np.uint8).reshape(8, 6, 4)
    np.testing.assert_array_equal(shown[..., 0], image[..., 0])
    decoded = MODEL.decode(encoded["digit.u_mean"], encoded["z_mean"])[0, ..., 0].astype(int)
    reconstruction = np.frombuffer(pixels_of(look, RECONSTRUCTION), np.uint8).reshape(8, 6, 4)[..., 0]
    assert np.abs(reconstruction - decoded).max() <= 1


def test_an_image_that_is_familiar_when_inverted(look: Page) -> None:
    """The page warns, and inverts it."""
    choose(look, png(IMAGES[INVERTED]))

    note = look.locator(".pv-note")
    expect(note).to_contain_text("Unlike the training images: its classes may be wrong.")
    expect(note).to_contain_text("It would be like them when inverted.")
    expect(look.get_by_text(f"{SCORES[INVERTED]:.1f}; images")).to_be_visible()
    look.get_by_role("button", name="Invert the image").click()
    expect(note).to_be_hidden()
    expect(look.get_by_text(f"{INVERTED_SCORES[INVERTED]:.1f}; images")).to_be_visible()
    expect_class(look, 255 - IMAGES[INVERTED])


@BOTH_SIZES
def test_a_drawing(look: Page) -> None:
    """It is sent while it is drawn: the model sees the stroke."""
    look.get_by_role("button", name="Clear the drawing").click()
    box = look.locator(CANVAS).bounding_box()
    assert box is not None
    before = look.locator(ORIGINAL).get_attribute("src")
    look.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    look.mouse.down()
    look.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] / 2, steps=5)
    look.mouse.up()

    expect(look.locator(ORIGINAL)).not_to_have_attribute("src", before or "")
    look.wait_for_function(
        """selector => { const image = document.querySelector(selector); if (!image.complete) return false;
            const canvas = Object.assign(document.createElement("canvas"), { width: 6, height: 8 });
            const context = canvas.getContext("2d"); context.drawImage(image, 0, 0);
            const value = (x, y) => context.getImageData(x, y, 1, 1).data[0];
            return Math.abs(value(3, 4) - value(3, 0)) > 30; }""",
        arg=ORIGINAL,
    )


def test_a_pasted_image(look: Page) -> None:
    content = base64.b64encode(png(IMAGES[1])).decode()
    look.evaluate(
        """async content => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
            window.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        }""",
        content,
    )
    expect_class(look, IMAGES[1])


def test_an_example(look: Page) -> None:
    """One of each class is offered."""
    before = look.locator(ORIGINAL).get_attribute("src")
    examples = look.get_by_role("button", name="Example: ")
    expect(examples).to_have_count(12)
    examples.nth(7).click()

    expect(look.locator(ORIGINAL)).not_to_have_attribute("src", before or "")
    assert pixels_of(look, ORIGINAL) == pixels_of(look, ".pv-examples__one:nth-child(8) img")


def test_move_from_here(look: Page) -> None:
    """The sliders start at the image's u and z, and show its reconstruction."""
    choose(look, png(IMAGES[0]))
    expect_class(look, IMAGES[0])
    reconstruction = pixels_of(look, RECONSTRUCTION)
    look.get_by_role("link", name="Move from here").click()

    z = MODEL.encode(IMAGES[:1])["z_mean"][0]
    expect(look.get_by_label("z0")).to_have_value(f"{round(float(z[0]), 2):g}")
    moved = pixels_of(look, ".pv-mover__image")
    assert np.abs(np.frombuffer(moved, np.uint8).astype(int) - np.frombuffer(reconstruction, np.uint8)).max() <= 1


def test_a_file_that_is_no_image(grey_explorer: Explorer, browser: Browser) -> None:
    """The page says so, and goes on to show the image before."""
    # The browser reports the status of the refusal.
    with checked_page(browser, DESKTOP, "status of 400") as page:
        page.goto(f"{grey_explorer.url}/look")
        choose(page, png(IMAGES[0]))
        expect_class(page, IMAGES[0])
        choose(page, b"nonsense", "notes.png")
        expect(page.get_by_text("the image cannot be used: not an image")).to_be_visible()
        expect_class(page, IMAGES[0])


def test_two_visitors_do_not_see_each_other(grey_explorer: Explorer, browser: Browser) -> None:
    with checked_page(browser, DESKTOP) as first, checked_page(browser, DESKTOP) as second:
        for page, image in ((first, IMAGES[0]), (second, IMAGES[1])):
            page.goto(f"{grey_explorer.url}/look")
            choose(page, png(image))
            expect_class(page, image)
        expect_class(first, IMAGES[0])
        sources = {page.locator(ORIGINAL).get_attribute("src") for page in (first, second)}
        assert len({str(source).split("/")[3] for source in sources}) == 2


@pytest.mark.exhaustive
def test_several_factors_in_colour(coloured_explorer: Explorer, page: Page) -> None:
    page.goto(f"{coloured_explorer.url}/look")
    image = COLOURED.random_images(1, seed=4)[0]
    choose(page, png(image))

    encoded = COLOURED.encode(image[np.newaxis])
    for factor in COLOURED.factors:
        best = factor.class_names[int(encoded[f"{factor.name}.probs"].argmax())]
        bars = page.get_by_role("list", name=f"Probabilities of {factor.name}")
        expect(bars.locator(".pv-bars__row--best .pv-bars__name")).to_have_text(best)
    score = float(COLOURED.score(image[np.newaxis])["negative_elbo"][0])
    assert 60 < score < 160
    expect(page.get_by_text(f"{score:.1f}; higher than for {score - 60:.0f} % of the test images;")).to_be_visible()
    expect(page.get_by_role("list", name="u of shape").locator(".pv-latents__row")).to_have_count(2)
    expect(page.get_by_label("Colour of strokes")).to_be_visible()
