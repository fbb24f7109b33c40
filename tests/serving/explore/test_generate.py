"""Browser tests of the page Generate."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.serving.explore.explorer import Explorer, pixels_of


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
