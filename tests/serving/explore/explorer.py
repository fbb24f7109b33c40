"""Runs a real `partedvae explore`, and a real Chromium whose pages must load without a problem."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from partedvae.results import ImageArray
from tests.processes import PATIENCE

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
BOTH_SIZES = pytest.mark.parametrize("page", ["desktop", "phone"], indirect=True)
"""Runs a test with both sizes in `make test` too."""
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
)
WAIT_MS = PATIENCE / 4 * 1000
"""Time after which a page that does not show what is expected fails; Playwright's five seconds are short for a busy
machine."""
expect.set_options(timeout=WAIT_MS)
ABORTED = "net::ERR_ABORTED"
"""A request that the browser itself gave up, because its picture or page was replaced."""


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """A running `partedvae explore`."""

    process: subprocess.Popen[str]
    link: str
    """The address that it has printed."""
    log_file: Path
    """Its stderr."""

    @property
    def url(self) -> str:
        """Its address on the loopback interface, without a slash at the end."""
        return f"http://127.0.0.1:{urlsplit(self.link).port}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def running_explorer(
    *options: str | Path, address: str = "127.0.0.1:0", folder: Path | None = None
) -> Iterator[Explorer]:
    """Run `partedvae explore` in the block; it must end with exit code 0 and nothing but warnings on stderr.

    Args:
        options: options of the command.
        address: where to listen; port 0 is a free one.
        folder: its current folder.
    """
    with tempfile.TemporaryDirectory() as temporary:
        log_file = Path(temporary) / "stderr"
        with log_file.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "partedvae", "explore", *map(str, options), "--address", address],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
            )
        with process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line.startswith("exploring at "), f"it did not start:\n{log_file.read_text()}"
                explorer = Explorer(process=process, link=line.split()[-1], log_file=log_file)
                yield explorer
                code = explorer.stop()
                text = log_file.read_text()
                assert code == 0, f"exit code {code}:\n{text}"
                assert "Traceback" not in text, text
                assert process.stdout.read() == ""
            finally:
                process.kill()


def chromium() -> str:
    """Return the program of Chromium; skip the test where there is none, and fail in continuous integration."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if program := shutil.which(name):
            return program
    reason = "Chromium is not installed, so that no web page is tested; on Debian: apt-get install chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run Chromium in the block."""
    program = chromium()
    # Chromium's sandbox refuses to run as root.
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def checked_page(browser: Browser, viewport: ViewportSize, *allowed: str) -> Iterator[Page]:
    """Open an empty page of a new visitor in the block.

    Afterwards there must have been no error in the console, no failed request, and no request to another origin than
    that of the first page.

    Args:
        browser: the browser.
        viewport: size of the window.
        allowed: texts of problems that are expected.
    """
    phone = viewport == PHONE
    context = browser.new_context(viewport=viewport, has_touch=phone, is_mobile=phone)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    problems: list[str] = []
    urls: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: urls.append(request.url))
    page.on("websocket", lambda socket: urls.append(socket.url))
    page.on(
        "requestfailed",
        lambda request: problems.append(f"{request.url}: {request.failure}") if request.failure != ABORTED else None,
    )
    try:
        yield page
    finally:
        context.close()
    origins = {urlsplit(url).netloc for url in urls if urlsplit(url).scheme not in ("data", "blob")}
    assert len(origins) <= 1, f"requests to several origins: {sorted(origins)}"
    unexpected = [text for text in problems if not any(part in text for part in allowed)]
    assert unexpected == []


def pixels_of(page: Page, selector: str) -> bytes:
    """Return the pixels of an image element, as the browser has decoded them, once it has loaded."""
    script = """async element => {
        await element.decode();
        const canvas = document.createElement("canvas");
        canvas.width = element.naturalWidth; canvas.height = element.naturalHeight;
        const context = canvas.getContext("2d");
        context.drawImage(element, 0, 0);
        return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
    }"""
    return bytes(page.locator(selector).first.evaluate(script))


def png(image: ImageArray) -> bytes:
    """Return an image [height, width, channels] as PNG."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG")
    return file.getvalue()
