"""Browser tests of the page Label: keys and buttons, and the labels.csv that they write."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from partedvae.serving.explore.labelling.keys import keys_of
from tests.bundles import GREY
from tests.processes import ServerProcess
from tests.serving.explore.explorer import BOTH_SIZES, DESKTOP, Explorer, checked_page, running_explorer

pytestmark = pytest.mark.slow

NAMES = [f"imgs/{number:02}.png" for number in range(14)]
ORDER = [NAMES[number] for number in (5, 3, 8, 1, 13, 0, 2, 4, 6, 7, 9, 10, 11, 12)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of images."""
    folder = tmp_path / "photos"
    (folder / "imgs").mkdir(parents=True)
    for name, pixels in zip(NAMES, GREY.random_images(len(NAMES)), strict=True):
        Image.fromarray(pixels[..., 0]).save(folder / name)
    return folder


@pytest.fixture
def order(tmp_path: Path) -> Path:
    """Return a list of the images in the order `ORDER`."""
    (tmp_path / "order.txt").write_text("\n".join(ORDER))
    return tmp_path / "order.txt"


@pytest.fixture
def suggested(photos: Path, order: Path, tmp_path: Path) -> Iterator[Explorer]:
    """Label the folder in a given order, without a model."""
    with running_explorer("--label", photos, "--suggestions", order, folder=tmp_path) as explorer:
        yield explorer


@pytest.fixture
def modelled(photos: Path, order: Path, tiny_models: Path, tmp_path: Path) -> Iterator[Explorer]:
    """Label the folder in a given order, with a model."""
    options = ("--label", photos, "--suggestions", order, "--model", tiny_models / "tiny")
    with running_explorer(*options, folder=tmp_path) as explorer:
        yield explorer


@pytest.fixture
def ranking(photos: Path, server: ServerProcess, tmp_path: Path) -> Iterator[Explorer]:
    """Label the folder in the order of the features of a server's model."""
    with running_explorer("--label", photos, "--server", server.address, folder=tmp_path) as explorer:
        yield explorer


def rows(folder: Path) -> list[list[str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.reader(file))


def wait_for_image(page: Page, name: str) -> None:
    """Wait until an image is on the screen."""
    expect(page.locator(".pv-label__file")).to_have_text(name)
    shown = f"""() => {{
        const image = document.querySelector('.pv-label__image');
        return image.dataset.number === '{NAMES.index(name)}' && image.complete && image.naturalWidth > 0;
    }}"""
    page.wait_for_function(shown)


@BOTH_SIZES
def test_ten_images_are_labelled_by_keys_or_by_touch(
    modelled: Explorer, photos: Path, tmp_path: Path, page: Page
) -> None:
    """The order is that of the list; rows and columns of others stay; images with a label do not come."""
    (photos / "labels.csv").write_text(
        'file,who,digit\ngone/77.png,"me, then",3\nimgs/03.png,,9\nimgs/08.png,you,\n', encoding="utf-8"
    )
    page.goto(f"{modelled.url}/label")
    page.get_by_label("label", exact=True).first.click()
    page.get_by_role("option", name="digit").click()
    expect(page.locator(".pv-label__question")).to_have_text("digit?")
    left = [name for name in ORDER if name != "imgs/03.png"]
    touch = page.evaluate("navigator.maxTouchPoints") > 0
    for number, name in enumerate(left[:10]):
        wait_for_image(page, name)
        expect(page.locator(".pv-label__guess")).to_contain_text("The model: ")
        if touch:
            page.locator(f'.pv-key--class[data-value="{number}"]').tap()
        else:
            page.keyboard.press(str(number))
    wait_for_image(page, left[10])
    expect(page.locator(".pv-label__counts")).to_have_text("11 of 14 images have a label of digit")
    expect(page.locator('.pv-key--class[data-value="9"] .pv-key__count')).to_have_text("2")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("window.innerWidth")
    table = rows(photos)
    assert table[:3] == [["file", "who", "digit"], ["gone/77.png", "me, then", "3"], ["imgs/03.png", "", "9"]]
    written = {row[0]: row[2] for row in table[2:]}
    assert written == {name: str(number) for number, name in enumerate(left[:10])} | {"imgs/03.png": "9"}
    assert ["imgs/08.png", "you", str(left.index("imgs/08.png"))] in table
    assert sorted(path.name for path in tmp_path.iterdir()) == ["order.txt", "photos"], "nothing else is written"


def test_a_label_is_undone_and_an_image_is_skipped(suggested: Explorer, photos: Path, desktop_page: Page) -> None:
    page = desktop_page
    page.goto(f"{suggested.url}/label")
    wait_for_image(page, ORDER[0])
    expect(page.locator(".pv-label__question")).to_have_text("Add the first classes.")
    page.get_by_label("factor").fill("animal")
    for names in (["cat"], ["cat", "dog"]):
        page.get_by_label("new class").fill(names[-1])
        page.keyboard.press("Enter")
        expect(page.locator(".pv-key--class .pv-key__text")).to_have_text(names)
        expect(page.get_by_label("new class")).to_have_value("")
    page.keyboard.press("Escape")  # Out of the field, whose keys are text.
    page.keyboard.press("2")
    wait_for_image(page, ORDER[1])
    assert rows(photos) == [["file", "animal"], [ORDER[0], "dog"]]
    page.keyboard.press("Space")
    wait_for_image(page, ORDER[2])
    page.keyboard.press("1")
    wait_for_image(page, ORDER[3])
    page.keyboard.press("Backspace")
    wait_for_image(page, ORDER[2])
    assert rows(photos) == [["file", "animal"], [ORDER[0], "dog"], [ORDER[2], ""]]
    page.keyboard.press("u")
    wait_for_image(page, ORDER[1])  # It was skipped.
    page.keyboard.press("u")
    wait_for_image(page, ORDER[0])
    page.keyboard.press("1")
    wait_for_image(page, ORDER[1])
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    assert rows(photos) == [["file", "animal"], [ORDER[0], "cat"], [ORDER[2], ""]]
    page.get_by_label("new class").fill("none")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("'none' counts as not known in labels.csv; choose another name")).to_be_visible()
    expect(page.get_by_label("new class")).to_have_value("none")  # To be mended.
    expect(page.locator(".pv-key--class .pv-key__text")).to_have_text(["cat", "dog"])
    assert rows(photos)[-1] == [ORDER[2], ""]


def test_a_folder_gets_several_factors(suggested: Explorer, photos: Path, desktop_page: Page) -> None:
    """A class of another factor adds it: an image is then asked for both."""
    page = desktop_page
    page.goto(f"{suggested.url}/label")
    wait_for_image(page, ORDER[0])
    for factor, name in (("animal", "cat"), ("animal", "dog"), ("colour", "red"), ("colour", "blue")):
        page.get_by_label("factor", exact=True).fill(factor)
        page.get_by_label("new class").fill(name)
        page.keyboard.press("Enter")
        expect(page.get_by_label("new class")).to_have_value("")
    expect(page.locator(".pv-key--class .pv-key__text")).to_have_text(["cat", "dog"])
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    expect(page.locator(".pv-key--class .pv-key__text")).to_have_text(["red", "blue"])
    expect(page.get_by_label("factor", exact=True)).to_have_value("colour")
    page.keyboard.press("1")
    wait_for_image(page, ORDER[1])
    assert rows(photos) == [["file", "animal", "colour"], [ORDER[0], "dog", "red"]]


@pytest.mark.parametrize("table", ["", f"file,kind\n{NAMES[12]},a\n"], ids=["no labels", "of another factor"])
def test_the_factors_of_a_model_are_asked_for(
    photos: Path, order: Path, two_models: Path, tmp_path: Path, desktop_page: Page, table: str
) -> None:
    """All of them, unless the folder has labels of other factors alone."""
    page = desktop_page
    if table:
        (photos / "labels.csv").write_text(table)
    options = ("--label", photos, "--suggestions", order, "--model", two_models / "shapes")
    with running_explorer(*options, folder=tmp_path) as explorer:
        page.goto(f"{explorer.url}/label")
        wait_for_image(page, ORDER[0])
        for factor in ["kind"] if table else ["shape", "colour"]:
            expect(page.locator(".pv-label__question")).to_have_text(f"{factor}?")
            page.locator(".pv-key--class").first.click()
        wait_for_image(page, ORDER[1])
        page.goto("about:blank")
    last = "a" if table else "ellipse,blue"
    assert (photos / "labels.csv").read_text().splitlines()[-1] == f"{ORDER[0]},{last}"


def test_an_image_that_is_still_loading_is_not_skipped(suggested: Explorer, desktop_page: Page) -> None:
    page = desktop_page
    page.route("**/label/image.png?*", lambda route: None)  # It never comes.
    page.goto(f"{suggested.url}/label", wait_until="domcontentloaded")
    expect(page.locator(".pv-label__file")).to_have_text(ORDER[0])
    page.keyboard.press("Space")
    page.wait_for_timeout(500)  # Long enough for the next image's name.
    expect(page.locator(".pv-label__file")).to_have_text(ORDER[0])


@pytest.mark.exhaustive
def test_two_visitors_get_different_images_and_lose_no_label(
    suggested: Explorer, photos: Path, browser: Browser
) -> None:
    (photos / "labels.csv").write_text(f"file,kind\n{NAMES[12]},a\n{NAMES[11]},b\n")
    with checked_page(browser, DESKTOP) as one, checked_page(browser, DESKTOP) as other:
        one.goto(f"{suggested.url}/label")
        wait_for_image(one, ORDER[0])
        other.goto(f"{suggested.url}/label")
        wait_for_image(other, ORDER[1])
        one.keyboard.press("a")
        wait_for_image(one, ORDER[2])
        # Meanwhile a spreadsheet has added a row.
        with (photos / "labels.csv").open("a") as file:
            file.write(f"{ORDER[2]},b\n")
        other.keyboard.press("b")
        wait_for_image(other, ORDER[3])
        expect(one.locator(".pv-label__counts")).to_have_text("5 of 14 images have a label of kind")
        one.keyboard.press("a")
        expect(one.get_by_text(f"{ORDER[2]} is b now: another visitor or program has changed it")).to_be_visible()
        wait_for_image(one, ORDER[4])
    known = {row[0]: row[1] for row in rows(photos)[1:]}
    assert known == {NAMES[12]: "a", NAMES[11]: "b", ORDER[0]: "a", ORDER[1]: "b", ORDER[2]: "b"}


@pytest.mark.exhaustive
def test_several_factors_are_asked_for_one_after_the_other(
    suggested: Explorer, photos: Path, desktop_page: Page
) -> None:
    page = desktop_page
    (photos / "labels.csv").write_text(
        f"file,animal,colour\n{NAMES[12]},cat,red\n{NAMES[11]},dog,blue\n{ORDER[1]},dog,\n"
    )
    page.goto(f"{suggested.url}/label")
    wait_for_image(page, ORDER[0])
    page.keyboard.press("1")
    expect(page.locator(".pv-label__question")).to_have_text("colour?")
    # A key for the factor that was on the screen before is ignored.
    late = {"action": "class", "factor": "animal", "value": "blue", "shown": NAMES.index(ORDER[0])}
    page.evaluate("event => emitEvent('pv-label', event)", late)
    page.keyboard.press("2")
    expect(page.locator(".pv-label__question")).to_have_text("colour?")
    wait_for_image(page, ORDER[1])  # Its animal is known.
    page.keyboard.press("1")
    wait_for_image(page, ORDER[2])
    expect(page.locator(".pv-label__question")).to_have_text("animal?")
    assert rows(photos)[3:] == [[ORDER[1], "dog", "blue"], [ORDER[0], "cat", "red"]]


def test_the_images_are_ranked_in_the_background(ranking: Explorer, tmp_path: Path, desktop_page: Page) -> None:
    desktop_page.goto(f"{ranking.url}/label")
    expect(desktop_page.locator(".pv-label__note").first).to_contain_text("images are left", timeout=60_000)
    assert [path.name for path in (tmp_path / "suggest").glob("photos-*/*")] == ["features-tiny.parquet"]


def test_training_shows_its_command_and_output(suggested: Explorer, photos: Path, desktop_page: Page) -> None:
    """A single class is too few, and the error of `partedvae train` is on the page."""
    page = desktop_page
    (photos / "labels.csv").write_text(f"file,kind\n{NAMES[0]},a\n")
    page.goto(f"{suggested.url}/label")
    expect(page.locator(".pv-command")).to_contain_text(
        f"$ partedvae train folder:{photos} --output runs/photos-1-labels"
    )
    if find_spec("torch") is None:
        expect(page.get_by_text("Training needs PyTorch: pip install 'partedvae[train]'")).to_be_visible()
        expect(page.get_by_role("button", name="Train")).to_be_disabled()
        return
    page.get_by_role("button", name="Train").click()
    expect(page.locator(".pv-log")).to_contain_text(
        "has only the class 'a', but at least two are needed", timeout=60_000
    )
    expect(page.get_by_text("Ended with exit code 1; see below.")).to_be_visible(timeout=60_000)


@pytest.mark.exhaustive
def test_only_images_of_the_folder_are_shown(suggested: Explorer, photos: Path, desktop_page: Page) -> None:
    (photos / NAMES[2]).write_bytes(b"nonsense")
    answers = {n: desktop_page.request.get(f"{suggested.url}/label/image.png?n={n}") for n in ("0", "2", "14", "-1")}
    assert {n: answer.status for n, answer in answers.items()} == {"0": 200, "2": 422, "14": 404, "-1": 400}
    assert answers["0"].body().startswith(b"\x89PNG")


def test_a_class_has_its_name_as_key_where_it_can() -> None:
    assert keys_of(["0", "1", "9"]) == {"0": "0", "1": "1", "9": "9"}
    assert keys_of(["cat", "dog", "1"]) == {"1": "1", "cat": "2", "dog": "3"}
    assert keys_of(["a", "u", "B"]) == {"a": "a", "B": "b", "u": "1"}, "u undoes"
    assert keys_of(["cat", "dog", "1", "d"], {"cat": "1", "dog": "2"}) == {"cat": "1", "dog": "2", "d": "d", "1": "3"}
    many = keys_of([f"class {number}" for number in range(50)])
    assert len(many) == len(set(many.values())) == 35
    assert many["class 9"] == "a"
