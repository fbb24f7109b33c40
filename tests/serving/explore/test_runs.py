"""Browser tests of the page Runs, on folders of runs alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.run_files import write_run_files
from tests.serving.explore.explorer import DESKTOP, Explorer, checked_page, pixels_of, running_explorer

pytestmark = pytest.mark.slow

MARKUP = "<img src=x onerror=document.title='injected'>"
"""A name of a run that would be an image if it were not shown as text."""
BOTH = "run=few&run=sweep%2Fmore"


def write_figure(run: Path, name: str, colour: str) -> None:
    (run / "figures").mkdir(exist_ok=True)
    Image.new("RGB", (40, 20), colour).save(run / "figures" / name)


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """Run `partedvae explore` on a folder of runs: `few`, `sweep/more`, an unfinished, a damaged and an odd one."""
    folder = tmp_path_factory.mktemp("runs")
    few = write_run_files(folder / "few", provenance={"started": "2026-01-01T00:00:00+00:00"})
    more = write_run_files(
        folder / "sweep" / "more",
        settings={"labels": 99, "objective.gamma_bc": 0.0},
        summary={"accuracy": {"corner": 0.9, "shade": 0.5}, "measures": {"generation/corner/dim": 0.7}, "warnings": []},
        provenance={"started": "2026-01-02T00:00:00+00:00"},
    )
    write_run_files(folder / "going-on", finished=False, settings={"epochs": 9})
    (write_run_files(folder / "damaged") / "summary.json").write_text("{")
    write_run_files(folder / MARKUP)
    write_figure(few, "embedding.png", "red")
    write_figure(few, "losses.png", "green")
    write_figure(more, "embedding.png", "blue")
    with running_explorer("--runs", folder) as running:
        yield running


def cells(page: Page, table: str, row: str) -> Locator:
    """Return the cells of a row of a table, without its first."""
    group = page.get_by_role("group", name=table, exact=True)
    return group.locator("tr", has=page.locator("th", has_text=row)).locator("td")


def choose(page: Page, *runs: str) -> None:
    for run in runs:
        page.get_by_role("checkbox", name=run, exact=True).click()


def test_pages_that_need_a_model_say_so(explorer: Explorer, page: Page) -> None:
    page.goto(f"{explorer.url}/generate")

    expect(page.get_by_text("Generate is not available")).to_be_visible()
    expect(page.locator(".pv-message")).to_contain_text("--model MODELS_DIR/NAME, or --server HOST:PORT")


def test_the_page_is_sent_before_the_runs_are_read(explorer: Explorer) -> None:
    """NiceGUI would answer with an error where reading takes more than three seconds."""
    response = httpx.get(f"{explorer.url}/runs")

    assert response.status_code == 200
    assert "going-on" not in response.text


def test_chosen_runs_are_compared(explorer: Explorer, page: Page) -> None:
    """The page of `--runs` alone: differences, and scores with the best marked."""
    page.goto(explorer.url)
    expect(page.get_by_text("Choose two runs or more to compare them.")).to_be_visible()
    choose(page, "few", "sweep/more")

    expect(cells(page, "Scores", "accuracy/corner")).to_have_text(["29.69%", "90.00%best"])
    expect(cells(page, "Scores", "accuracy/shade")).to_have_text(["59.38%best", "50.00%"])
    expect(cells(page, "Settings", "labels")).to_have_text(["40", "99"])
    expect(cells(page, "Settings", "objective.gamma_bc")).to_have_text(["30", "0"])
    expect(page.get_by_role("group", name="Settings").locator("tbody tr")).to_have_count(2)
    expect(page.get_by_role("group", name="Data and environment")).to_have_count(0)
    expect(page.get_by_role("note")).to_contain_text("few: q(c) has collapsed")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"


def test_the_choice_is_in_the_address(explorer: Explorer, page: Page) -> None:
    page.goto(f"{explorer.url}/runs?run=few")
    choose(page, "sweep/more")
    expect(page).to_have_url(f"{explorer.url}/runs?{BOTH}&figure=embedding.png")
    page.reload()
    expect(cells(page, "Settings", "labels")).to_have_text(["40", "99"])
    choose(page, "few")
    expect(page.get_by_text("Choose two runs or more to compare them.")).to_be_visible()
    expect(page).to_have_url(f"{explorer.url}/runs?run=sweep%2Fmore&figure=embedding.png")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("checkbox", name="sweep/more")).not_to_be_checked()


def test_curves_have_a_chart_per_metric_with_every_run(explorer: Explorer, page: Page) -> None:
    page.goto(f"{explorer.url}/runs?{BOTH}")
    charts = page.get_by_role("img", name="per epoch")
    chart = page.get_by_role("img", name="test/accuracy/corner of few, more per epoch")
    expect(chart.locator("svg")).to_be_visible()
    colours = chart.locator("svg path").evaluate_all("paths => paths.map(path => path.getAttribute('stroke'))")
    assert {"#6366f1", "#d97706"} <= set(colours)
    expect(chart).to_contain_text("%")
    titles = page.locator("figure.pv-chart figcaption").all_inner_texts()
    assert charts.count() == len(titles)
    assert titles[0].startswith("test/")
    assert {"loss", "test/accuracy/corner", "bhattacharyya"} <= set(titles)


def test_figures_are_side_by_side(explorer: Explorer, page: Page) -> None:
    page.goto(f"{explorer.url}/runs?{BOTH}")
    images = page.locator(".pv-figure__image")
    expect(images).to_have_count(2)
    images.last.scroll_into_view_if_needed()
    assert pixels_of(page, "img[alt='embedding of few']")[:3] == b"\xff\0\0"
    assert pixels_of(page, "img[alt='embedding of more']")[:3] == b"\0\0\xff"

    page.get_by_label("Figure", exact=True).click()
    page.get_by_role("option", name="losses").click()
    expect(images).to_have_count(1)
    expect(page).to_have_url(f"{explorer.url}/runs?{BOTH}&figure=losses.png")
    assert pixels_of(page, "img[alt='losses of few']")[:3] == b"\0\x80\0"
    expect(page.locator(".pv-figure").last).to_contain_text("Not drawn: 'partedvae figures ")


@pytest.mark.exhaustive
def test_unfinished_runs_have_metrics_and_no_scores(explorer: Explorer, desktop_page: Page) -> None:
    desktop_page.goto(f"{explorer.url}/runs?run=few&run=going-on")
    expect(cells(desktop_page, "Scores", "accuracy/corner")).to_have_text(["29.69%", "–"])
    expect(cells(desktop_page, "Training", "epochs")).to_have_text(["2 of 2", "2 of 9"])
    desktop_page.get_by_text("Last epoch", exact=True).click()
    expect(cells(desktop_page, "Metrics of the last epoch", "test/accuracy/corner")).to_have_text(["29.69%", "29.69%"])


def test_damaged_and_unknown_runs_are_named(explorer: Explorer, desktop_page: Page) -> None:
    desktop_page.goto(f"{explorer.url}/runs?run=few&run=damaged&run=gone")
    expect(desktop_page.get_by_text("damaged/summary.json cannot be read: ")).to_be_visible()
    expect(desktop_page.get_by_role("checkbox", name="damaged")).to_be_disabled()
    expect(desktop_page.get_by_role("note")).to_contain_text(
        [
            "'damaged' of the URL is not a run of this folder that can be read.",
            "'gone' of the URL is not a run of this folder that can be read.",
        ]
    )


@pytest.mark.exhaustive
def test_names_are_text(explorer: Explorer, desktop_page: Page) -> None:
    """Also in the legend that a chart shows under the pointer."""
    page = desktop_page
    page.goto(f"{explorer.url}/runs?run=few")
    choose(page, MARKUP)
    chart = page.locator(".pv-chart__plot").first
    chart.locator("svg").hover()
    expect(chart).to_contain_text(MARKUP)
    assert page.title() == "Runs - PartedVAE"
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.exhaustive
def test_the_list_is_filtered(explorer: Explorer, desktop_page: Page) -> None:
    """By name, and by what is known of a run; the last one that was started is the first."""
    page = desktop_page
    page.goto(f"{explorer.url}/runs?run=few")
    boxes = page.locator(".pv-runs").get_by_role("checkbox")
    expect(boxes).to_have_count(5)
    labels = page.locator(".pv-runs .q-checkbox__label").all_inner_texts()
    assert labels.index("sweep/more") < labels.index("few")
    page.get_by_label("Filter").fill("99 labels")
    expect(boxes).to_have_count(1)
    page.get_by_label("Filter").fill("FEW")
    expect(page.get_by_role("checkbox", name="few", exact=True)).to_be_checked()
    page.get_by_label("Filter").fill("nothing")
    expect(page.get_by_text("No run has this text.")).to_be_visible()


@pytest.mark.exhaustive
def test_visitors_have_choices_of_their_own(explorer: Explorer, browser: Browser) -> None:
    with checked_page(browser, DESKTOP) as first, checked_page(browser, DESKTOP) as second:
        first.goto(f"{explorer.url}/runs")
        second.goto(f"{explorer.url}/runs")
        choose(first, "few", "sweep/more")
        expect(cells(first, "Settings", "labels")).to_have_text(["40", "99"])
        expect(second.get_by_text("Choose two runs or more to compare them.")).to_be_visible()
        expect(second.get_by_role("checkbox", name="few", exact=True)).not_to_be_checked()


@pytest.mark.exhaustive
def test_runs_that_changed_are_read_again(tmp_path: Path, desktop_page: Page) -> None:
    path = write_run_files(tmp_path / "a", finished=False, settings={"epochs": 9})
    write_run_files(tmp_path / "b")
    with running_explorer("--runs", tmp_path) as running:
        desktop_page.goto(f"{running.url}/runs?run=a&run=b")
        expect(cells(desktop_page, "Training", "epochs")).to_have_text(["2 of 9", "2 of 2"])
        with (path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": 3, "step": 30, "loss": 1.0}) + "\n")
        desktop_page.get_by_role("button", name="Read again").click()
        expect(cells(desktop_page, "Training", "epochs")).to_have_text(["3 of 9", "2 of 2"])
        desktop_page.goto("about:blank")


@pytest.mark.exhaustive
def test_a_folder_without_runs(tmp_path: Path, desktop_page: Page) -> None:
    with running_explorer("--runs", tmp_path) as explorer:
        desktop_page.goto(f"{explorer.url}/runs")
        message = "There is no run in this folder; train one with 'partedvae train'."
        expect(desktop_page.get_by_text(message)).to_be_visible()
        desktop_page.goto("about:blank")


@pytest.mark.exhaustive
def test_without_a_folder_the_page_says_what_it_needs(grey_explorer: Explorer, desktop_page: Page) -> None:
    desktop_page.goto(f"{grey_explorer.url}/runs")
    expect(desktop_page.get_by_text("Runs is not available")).to_be_visible()
    expect(desktop_page.locator(".pv-message")).to_contain_text("--runs FOLDER, the folder of 'partedvae train'")
