"""The time from moving a slider of `partedvae explore` to the picture, measured in a headless Chromium.

python -m benchmarks.explore --models demo/models --document docs/BENCHMARKS.md
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from playwright.sync_api import Browser, sync_playwright

from benchmarks.options import document_option, model_options, newest_bundle, output_option, write_results
from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.machine import describe, machine
from benchmarks.serving.server import running_server
from benchmarks.serving.tables import table

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--disable-background-networking", "--disable-component-update", "--disable-gpu", "--disable-sync")
RATE = 60
"""Movements per second of a drag, as many as a mouse reports to a page."""
WARM_UP = 30
"""Pictures that are not counted."""
DRAG = """
async ([rate, count]) => {
    const image = document.querySelector(".pv-mover__image");
    const sliders = [...document.querySelectorAll('input[type="range"][aria-label^="z"]')];
    const state = () => sliders.map((slider) => +slider.value).join(",");
    const moved = new Map(), delays = [];
    image.addEventListener("load", () => {
        // When the slider was moved to the state that this picture shows; the next frame shows it.
        const since = moved.get(new URL(image.src).searchParams.get("z"));
        requestAnimationFrame(() => { if (since !== undefined) delays.push(performance.now() - since); });
    });
    let moves = 0;
    for (; delays.length < count; moves++) {
        // One slider after the other, so that no picture is one that the browser has already.
        const slider = sliders[moves % sliders.length];
        slider.value = Math.max(-3, Math.min(3, +slider.value + (Math.random() - 0.5) / 2));
        moved.set(state(), performance.now());
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        await new Promise((resolve) => setTimeout(resolve, 1000 / rate));
    }
    return { delays, moves };
}
"""
"""Moves sliders until that many pictures have been shown; returns milliseconds from movement to picture."""


@click.command()
@output_option()
@model_options()
@click.option("--pictures", type=click.IntRange(min=20), default=500, show_default=True, help="Pictures that count.")
@document_option
def main(output: Path, models: Path, name: str, pictures: int, document: Path | None) -> None:
    """Drag sliders in a headless Chromium and measure how long each picture takes. Run nothing else meanwhile."""
    bundle = newest_bundle(models, name)
    try:
        with ExitStack() as stack:
            browser = stack.enter_context(_browser())
            address = stack.enter_context(running_server(models)).address
            rows = {
                "in the process of the pages": ("--model", str(models / name)),
                "on a server": ("--server", address, "--model-name", name),
            }
            results = {where: _measure(browser, options, pictures) for where, options in rows.items()}
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    facts = machine()
    text = _report(f"{name} version {bundle.version}", results, facts)
    click.echo(text)
    write_results(output, {"machine": facts, "results": results}, document, "bench-explore", text)


def _measure(browser: Browser, options: tuple[str, ...], pictures: int) -> dict[str, float]:
    with _explorer(*options) as url:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{url}/move")
        page.locator(".pv-strip img").last.wait_for()
        result = page.evaluate(DRAG, [RATE, WARM_UP + pictures])
        page.close()
    delays: list[float] = sorted(result["delays"][WARM_UP : WARM_UP + pictures])

    def quantile(share: float) -> float:
        return round(delays[min(len(delays) - 1, int(share * len(delays)))], 1)

    return {"p50_ms": quantile(0.5), "p95_ms": quantile(0.95), "p99_ms": quantile(0.99)}


def _report(model: str, results: dict[str, dict[str, float]], facts: dict[str, str | int]) -> str:
    rows = [(where, *(f"{value:.0f} ms" for value in result.values())) for where, result in results.items()]
    sentence = f"{describe(facts)} Model {model}, headless Chromium with software rendering."
    return f"{sentence}\n\n{table(('the model is', 'p50', 'p95', 'p99'), rows)}"


@contextmanager
def _explorer(*options: str) -> Iterator[str]:
    """Run the pages on a free port; yields their address."""
    command = [sys.executable, "-m", "partedvae", "explore", *options, "--address", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("exploring at "):
                raise BenchmarkError("the pages did not start; see their output above")
            yield line.split()[-1].rstrip("/")
        finally:
            process.terminate()


@contextmanager
def _browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise BenchmarkError("Chromium is not installed; on Debian: apt-get install chromium")
    # Chromium's sandbox refuses to run as root.
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            browser.close()


if __name__ == "__main__":
    main()
