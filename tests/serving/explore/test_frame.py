"""Browser tests of what surrounds every page."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import numpy as np
import pytest
from nicegui import Client, ui
from playwright.sync_api import Browser, Page, expect

from partedvae.serving.explore.features.colours import Colouring
from partedvae.serving.explore.pages.map.legend import show_legend
from partedvae.serving.explore.widgets import card
from tests.processes import running_server
from tests.serving.explore.explorer import BOTH_SIZES, DESKTOP, Explorer, checked_page, running_explorer

pytestmark = pytest.mark.slow


@BOTH_SIZES
def test_the_start_leads_to_a_page_with_the_model(grey_explorer: Explorer, page: Page) -> None:
    page.goto(grey_explorer.url)

    expect(page.locator(".pv-model__name")).to_have_text("tiny 1")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.evaluate("window.innerWidth"), "the page scrolls sideways"


def test_the_theme_is_remembered(grey_explorer: Explorer, desktop_page: Page) -> None:
    """Also by the next page that is loaded."""
    page = desktop_page
    page.goto(grey_explorer.url)
    expect(page.locator("body")).to_have_class(re.compile("body--light"))

    page.get_by_role("button", name="Dark or light").click()
    page.get_by_text("Dark", exact=True).click()
    expect(page.locator("body")).to_have_class(re.compile("body--dark"))
    page.reload()
    expect(page.locator("body")).to_have_class(re.compile("body--dark"))


def test_warnings_of_the_model(coloured_explorer: Explorer, desktop_page: Page) -> None:
    """As those of a model whose drawn images do not show their class."""
    page = desktop_page
    page.goto(coloured_explorer.url)
    page.get_by_role("button", name="Warnings of the model").click()
    expect(page.get_by_text("images drawn for a class do not show it")).to_be_visible()


def test_names_are_texts_of_attributes() -> None:
    """Those of somebody else's bundle or file add no attributes of their own."""
    name = 'x" onclick="alert(1)'
    with Client(ui.page("/names")) as client:
        with card(name):
            show_legend(Colouring(name="column", title=name, numbers=np.zeros(3, dtype=np.float32)), print)
        attributes = [element.props for element in client.elements.values()]

    assert [dict(props)["aria-label"] for props in attributes if "aria-label" in props] == [name, name]
    assert not any("onclick" in props for props in attributes)


def test_a_server_that_goes_away_and_comes_back(tiny_models: Path, browser: Browser) -> None:
    """The page opens without it, shows it when it comes, says when it goes, and recovers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = ("--address", address, "--front", "grpcio")
    with (
        running_explorer("--server", address) as explorer,
        # The browser reports pictures that the server cannot draw.
        checked_page(browser, DESKTOP, "503") as page,
    ):
        banner = page.locator('.pv-banner[role="alert"]')  # Calls that fail as the server goes are notified too.
        page.goto(f"{explorer.url}/generate")
        expect(banner).to_contain_text(f"no server answers at {address}")
        expect(page.get_by_text("Waiting for the server")).to_be_visible()
        with running_server(tiny_models, *options):
            expect(page.locator(".pv-grid__row")).to_have_count(10)
            expect(banner).to_be_hidden()
        expect(banner).to_be_visible()
        page.goto(f"{explorer.url}/look")
        expect(page.get_by_text("Look cannot be shown")).to_be_visible()
        mover = page.context.new_page()
        mover.goto(f"{explorer.url}/move")
        expect(mover.locator(".pv-mover").get_by_role("alert")).to_contain_text(f"no server answers at {address}")
        with running_server(tiny_models, *options):
            expect(banner).to_be_hidden()
            expect(page.locator(".pv-bars__row--best")).to_be_visible()
            # Those that could not be drawn before, and strips, which ask once.
            for pictures in (".pv-mover__image", ".pv-strip img"):
                mover.wait_for_function(
                    "selector => [...document.querySelectorAll(selector)].every(image => image.naturalWidth)",
                    arg=pictures,
                )
        page.goto("about:blank")
