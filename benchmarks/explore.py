"""The fluidity of the pages of `partedvae explore`, measured in a headless Chromium.

How long a picture takes from the movement of a slider, and how smoothly a map of many points moves.

python -m benchmarks.explore --models demo/models --document docs/BENCHMARKS.md
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from playwright.sync_api import Browser, sync_playwright

from benchmarks.options import document_option, model_options, newest_bundle, output_option, write_results
from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.machine import describe, machine
from benchmarks.serving.server import running_server
from benchmarks.serving.tables import table
from partedvae.client import Client

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
WINDOWS = {"1280x900": ((1280, 900), 1.0), "390x844, two pixels per CSS pixel": ((390, 844), 2.0)}
"""Width and height of a window, and pixels per CSS pixel: of a desktop and of a phone."""
DRAWN = 500
"""Images of the map that are drawn in one call."""
FRAMES = 120
"""Frames of a movement of the map."""
PAN = """
async ([name, frames]) => {
    const map = document.querySelector(`[aria-label="Map of ${name}"] canvas`).pointMap;
    const timed = (work) => { const began = performance.now(); work(); return performance.now() - began; };
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const rest = () => new Promise((resolve) => setTimeout(resolve, 1000));
    await rest();
    const all = [];
    for (let i = 0; i < 5; i++) { map.stale = true; all.push(timed(() => map.paint())); await frame(); }
    const between = [], drawing = [], paint = map.paint;
    map.paint = () => drawing.push(timed(() => paint.call(map)));
    let last = await frame();
    for (let i = 0; i < frames; i++) {
        map.panned(i % 80 < 40 ? 3 : -3, i % 60 < 30 ? 2 : -2);
        const now = await frame();
        between.push(now - last);
        last = now;
    }
    delete map.paint;
    return { all, between, drawing };
}
"""
"""Moves a map by a few pixels per frame; returns milliseconds of drawing all points, between frames, and of drawing."""


@click.command()
@output_option()
@model_options()
@click.option("--pictures", type=click.IntRange(min=20), default=500, show_default=True, help="Pictures that count.")
@click.option("--points", type=click.IntRange(min=1000), default=70_000, show_default=True, help="Points of the map.")
@document_option
def main(output: Path, models: Path, name: str, pictures: int, points: int, document: Path | None) -> None:
    """Drag sliders and a map in a headless Chromium, and measure how long it takes. Run nothing else meanwhile."""
    bundle = newest_bundle(models, name)
    try:
        with ExitStack() as stack:
            browser = stack.enter_context(_browser())
            address = stack.enter_context(running_server(models)).address
            rows = {
                "in the process of the pages": ("--model", str(models / name)),
                "on a server": ("--server", address, "--model-name", name),
            }
            sliders = {where: _measure_sliders(browser, options, pictures) for where, options in rows.items()}
            folder = Path(stack.enter_context(TemporaryDirectory()))
            features = _features(address, models / name, points, folder)
            maps = _measure_map(browser, models / name, features)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    facts = machine()
    text = _report(f"{name} version {bundle.version}", sliders, maps, points, facts)
    click.echo(text)
    write_results(
        output, {"machine": facts, "points": points, "sliders": sliders, "map": maps}, document, "bench-explore", text
    )


def _measure_sliders(browser: Browser, options: tuple[str, ...], pictures: int) -> dict[str, float]:
    with _explorer(*options) as url:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{url}/move")
        page.locator(".pv-strip img").last.wait_for()
        result = page.evaluate(DRAG, [RATE, WARM_UP + pictures])
        page.close()
    delays = result["delays"][WARM_UP : WARM_UP + pictures]
    return {f"p{share}_ms": _quantile(delays, share) for share in (50, 95, 99)}


def _features(address: str, model: Path, points: int, folder: Path) -> Path:
    """Write the features of images that the model draws."""
    images = folder / "images.npy"
    with Client(address, model=model.name) as client:
        drawn = [client.generate(DRAWN, seed=seed).images for seed in range(math.ceil(points / DRAWN))]
    np.save(images, np.concatenate(drawn)[:points])
    features = folder / "features.parquet"
    command = ["extract", str(images), "--output", str(features), "--model", str(model), "--include", "class,u,z"]
    done = subprocess.run([sys.executable, "-m", "partedvae", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"the features of the map were not written:\n{done.stderr}")
    return features


def _measure_map(browser: Browser, model: Path, features: Path) -> dict[str, dict[str, float]]:
    results = {}
    with _explorer("--model", str(model), "--features", str(features)) as url:
        for window, ((width, height), ratio) in WINDOWS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=ratio)
            page.goto(f"{url}/map")
            for name in ("u", "z"):
                page.locator(f'[aria-label="Map of {name}"] canvas[data-drawn]').wait_for()
            moved = page.evaluate(PAN, ["u", FRAMES])
            page.close()
            results[window] = {
                "drawing_p50_ms": _quantile(moved["drawing"], 50),
                "frames_p50_ms": _quantile(moved["between"], 50),
                "frames_p95_ms": _quantile(moved["between"], 95),
                "all_points_p50_ms": _quantile(moved["all"], 50),
            }
    return results


def _quantile(values: list[float], share: int) -> float:
    return round(sorted(values)[min(len(values) - 1, share * len(values) // 100)], 1)


def _report(
    model: str,
    sliders: dict[str, dict[str, float]],
    maps: dict[str, dict[str, float]],
    points: int,
    facts: dict[str, str | int],
) -> str:
    def rows(results: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
        return [(name, *(f"{value:.0f} ms" for value in result.values())) for name, result in results.items()]

    heads = (
        "window",
        "drawing while moved, p50",
        "frame to frame while moved, p50",
        "frame to frame while moved, p95",
        "drawing all points, p50",
    )
    return "\n\n".join(
        (
            f"{describe(facts)} Model {model}, headless Chromium with software rendering.",
            table(("the model is", "p50", "p95", "p99"), rows(sliders)),
            f"A map of {points:,} images that the model draws, beside another one:",
            table(heads, rows(maps)),
        )
    )


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
