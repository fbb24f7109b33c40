"""Tests of the folder of runs, and of the route for figures, which serves nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from partedvae.serving.explore.run_folder import list_runs
from tests.run_files import write_run_files
from tests.serving.explore.explorer import Explorer, running_explorer

pytestmark = pytest.mark.slow

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of the run `a`, whose figures are a file and links, beside files that are not to be served."""
    folder = tmp_path_factory.mktemp("explored") / "runs"
    run = write_run_files(folder / "a")
    (run / "figures").mkdir()
    (run / "figures" / "losses.png").write_bytes(PNG + b"losses")
    (run / "figures" / "notes.txt").write_text("notes")
    (run / "secret.png").write_bytes(PNG)
    (folder / "no-run" / "figures").mkdir(parents=True)
    (folder / "no-run" / "figures" / "losses.png").write_bytes(PNG)
    outside = write_run_files(folder.parent / "outside")
    (outside / "figures").mkdir()
    (outside / "figures" / "losses.png").write_bytes(PNG)
    (folder / "linked").symlink_to(outside)
    (run / "figures" / "linked.png").symlink_to(outside / "figures" / "losses.png")
    return folder


@pytest.fixture(scope="module")
def explorer(folder: Path) -> Iterator[Explorer]:
    with running_explorer("--runs", folder) as running:
        yield running


def test_a_figure_is_served(explorer: Explorer) -> None:
    """Browsers ask whether it has changed, since it may be drawn again."""
    response = httpx.get(f"{explorer.url}/run-figure.png", params={"run": "a", "name": "losses.png"})
    assert (response.status_code, response.content) == (200, PNG + b"losses")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("a", "../secret.png"),
        ("a", "notes.txt"),
        ("a", "linked.png"),
        ("a", "/etc/passwd"),
        ("a", "missing.png"),
        ("a/..", "losses.png"),
        ("a/../a", "losses.png"),
        ("../outside", "losses.png"),
        ("linked", "losses.png"),
        ("no-run", "losses.png"),
        ("", "losses.png"),
    ],
)
def test_nothing_else_is_served(explorer: Explorer, run: str, name: str) -> None:
    response = httpx.get(f"{explorer.url}/run-figure.png", params={"run": run, "name": name})
    assert (response.status_code, response.text) == (404, "there is no such figure")


def test_without_a_folder_of_runs_there_are_no_figures(grey_explorer: Explorer) -> None:
    response = httpx.get(f"{grey_explorer.url}/run-figure.png", params={"run": "a", "name": "losses.png"})
    assert response.status_code == 404


def test_runs_are_listed_with_what_is_wrong_with_them(tmp_path: Path) -> None:
    write_run_files(tmp_path / "old", provenance={"started": "2026-01-01T00:00:00+00:00"})
    write_run_files(tmp_path / "sweep" / "new", provenance={"started": "2026-02-01T00:00:00+00:00"})
    (write_run_files(tmp_path / "damaged") / "config.json").write_text("{")
    entries = list_runs(tmp_path)
    assert [entry.key for entry in entries] == ["sweep/new", "old", "damaged"]
    assert [entry.run is None for entry in entries] == [False, False, True]
    assert f"{tmp_path}/damaged/config.json cannot be read: " in entries[2].problem
    assert [entry.key for entry in list_runs(tmp_path / "old")] == ["."]
