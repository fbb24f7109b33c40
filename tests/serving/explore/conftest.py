"""Fixtures of the web pages: running explorers, and pages of a real browser on a desktop and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.familiar import MODEL
from tests.serving.explore.explorer import DESKTOP, PHONE, Explorer, checked_page, running_browser, running_explorer


@pytest.fixture(scope="session")
def grey_explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """Run `partedvae explore` on the model `tiny`, `tests.familiar.MODEL`, in its process."""
    folder = tmp_path_factory.mktemp("explored") / "tiny"
    MODEL.write(folder)
    with running_explorer("--model", folder) as explorer:
        yield explorer


@pytest.fixture(scope="session")
def coloured_explorer(two_models: Path) -> Iterator[Explorer]:
    """Run `partedvae explore` on the model `shapes` (`tests.bundles.COLOURED`): RGB, with two factors."""
    with running_explorer("--model", two_models / "shapes") as explorer:
        yield explorer


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run Chromium. Not for the session: Playwright's event loop would keep later tests from having their own."""
    with running_browser() as running:
        yield running


@pytest.fixture(params=["desktop", pytest.param("phone", marks=pytest.mark.exhaustive)])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Open an empty page, once of a desktop's and once of a phone's size; see `checked_page`.

    `make test` leaves the phone out, except for the tests that have `BOTH_SIZES`.
    """
    with checked_page(browser, PHONE if request.param == "phone" else DESKTOP) as opened:
        yield opened


@pytest.fixture
def desktop_page(browser: Browser) -> Iterator[Page]:
    """Open an empty page of a desktop's size, for what does not depend on it."""
    with checked_page(browser, DESKTOP) as opened:
        yield opened
