"""The state that visitors of the page Label share, without a browser."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from partedvae.common.data_error import DataError
from partedvae.common.labels_file import Labels
from partedvae.serving.explore.labelling import pictures, process
from partedvae.serving.explore.labelling.pictures import LONGEST, add_image_route, picture_of
from partedvae.serving.explore.labelling.process import CommandProcess
from partedvae.serving.explore.labelling.workspace import ANY, Workspace

NAMES = ["0.png", "1.png", "2.png"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.new("L", (4, 4), number).save(folder / name)
    return folder


def replace_commands(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Run a shell script in place of each command."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


async def ranked(workspace: Workspace, factor: str = ANY) -> None:
    """Rank, and wait for the end."""
    workspace.rank(factor)
    assert workspace._task is not None
    await workspace._task


async def test_a_class_that_another_program_has_changed_is_not_overwritten(photos: Path) -> None:
    workspace = Workspace(photos)
    assert await workspace.write("0.png", "kind", "a", before="")
    (photos / "labels.csv").write_text("file,kind\n0.png,b\n")
    assert not await workspace.write("0.png", "kind", "c", before="a")
    assert (photos / "labels.csv").read_text() == "file,kind\n0.png,b\n"
    assert workspace.labels.class_of("0.png", "kind") == "b"
    assert await workspace.write("0.png", "kind", "c", before="b")
    assert (photos / "labels.csv").read_text() == "file,kind\n0.png,c\n"


def test_a_list_with_another_image_is_refused(photos: Path, tmp_path: Path) -> None:
    given = tmp_path / "list.txt"
    given.write_text("./1.png\n1.png\n7.png\n")
    with pytest.raises(DataError, match=r"list.txt, line 3: '7.png' is not an image of the folder; correct it"):
        Workspace(photos, given)
    given.write_text("./1.png\n1.png\n0.png\n")
    workspace = Workspace(photos, given)
    assert [workspace.claim(visitor, ["kind"], ()) for visitor in "ab"] == ["1.png", "0.png"]


async def test_a_slow_read_does_not_bring_earlier_labels_back(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(photos)
    file, done, go_on = workspace._file, threading.Event(), threading.Event()
    read = file.read

    def slowly() -> Labels:
        labels = read()
        done.set()
        go_on.wait(10)
        return labels

    monkeypatch.setattr(file, "read", slowly)
    reading = asyncio.create_task(workspace.refresh())
    await asyncio.to_thread(done.wait)
    writing = asyncio.create_task(workspace.write("0.png", "kind", "a", before=""))
    await asyncio.wait([writing], timeout=0.2)  # Long enough for a write that does not wait for the read.
    go_on.set()
    await asyncio.gather(reading, writing)
    assert workspace.labels.class_of("0.png", "kind") == "a"


@pytest.mark.parametrize(
    ("factor", "name", "message"),
    [
        ("kind", "none", "'none' counts as not known in labels.csv"),
        ("kind", "a" * 201, "has 201 characters, more than the 200 of a name"),
        ("z0", "a", "a factor cannot be called 'z0'"),
        ("split", "a", "a factor cannot be called 'split'"),
    ],
)
async def test_names_that_training_refuses_are_not_added(photos: Path, factor: str, name: str, message: str) -> None:
    workspace = Workspace(photos)
    with pytest.raises(DataError, match=message):
        await workspace.add_class(factor, name)
    assert workspace.classes(factor) == []


async def test_added_names_are_in_composed_form(photos: Path) -> None:
    workspace = Workspace(photos)
    assert await workspace.add_class("a\u0308ra", " cafe\u0301 ") == "\u00e4ra"
    assert workspace.classes("\u00e4ra") == ["caf\u00e9"]


async def test_an_undone_image_stays_reserved_for_the_visitor_who_has_it(photos: Path) -> None:
    workspace = Workspace(photos)
    first = workspace.claim("a", ["kind"], ())
    assert first is not None
    assert workspace.claim("b", ["kind"], (), first) == first
    workspace.release("b")
    assert workspace.claim("c", ["kind"], ()) != first


async def test_a_ranking_that_fails_is_a_problem_and_can_be_repeated(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(photos)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    await ranked(workspace)
    assert workspace.problem.startswith(f"Error: {tmp_path / 'nothing'} cannot be started: ")
    replace_commands(monkeypatch, tmp_path, "echo nonsense")
    await ranked(workspace)
    assert workspace.problem == "'partedvae suggest' printed 'nonsense' instead of a list of images"
    replace_commands(
        monkeypatch, tmp_path, """echo '{"images": ["2.png"], "features_run": "suggest/photos/features"}'"""
    )
    await ranked(workspace)
    assert (workspace.problem, workspace.ranked()) == ("", 1)
    assert workspace.features_run == "suggest/photos/features"
    # Few labels are enough with those of groups.
    assert workspace.training_command()[-2:] == ["--features", "suggest/photos/features"]


def test_the_command_that_trains_has_a_folder_of_its_own(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (photos / "labels.csv").write_text("file,kind\n0.png,a\n1.png,b\n")
    words = ["train", f"folder:{photos}", "--output", f"runs/{photos.name}-2-labels"]
    assert Workspace(photos).training_command() == words
    (tmp_path / words[-1]).mkdir(parents=True)
    assert Workspace(photos).training_command() == [*words[:-1], f"{words[-1]}-2"]


async def test_each_factor_has_its_ranking(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that lack the factor, in its order; of a single factor, or all, any label counts."""
    (photos / "labels.csv").write_text("file,kind,colour\n0.png,a,red\n1.png,b,\n")
    script = (
        """echo "$*" >> calls; case "$*" in *colour*) echo '{"images": ["2.png", "1.png"], "features_run": null}' ;;"""
    )
    script += """ *) echo '{"images": ["2.png"], "features_run": null}' ;; esac"""
    replace_commands(monkeypatch, tmp_path, script)
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(photos)
    assert [workspace.ranked_by(factor) for factor in ("colour", "new", ANY)] == ["colour", ANY, ANY]
    await ranked(workspace)
    await ranked(workspace, "colour")

    calls = [line.partition("--count ")[2] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls == ["14 --json", "14 --json --factor colour"]
    assert (workspace.unlabelled("colour"), workspace.ranked("colour")) == (2, 2)
    assert (workspace.unlabelled(), workspace.ranked()) == (1, 1)
    assert workspace.claim("a", ["colour"], (), ranked_by="colour") == "2.png"
    assert workspace.claim("b", ["colour"], (), ranked_by="colour") == "1.png"


@pytest.mark.parametrize(("classes", "count"), [(3, 10), (26, 26)])
async def test_the_first_ranking_has_an_image_per_class(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int, count: int
) -> None:
    """And at least ten, with which `suggest` was measured; there is one ranking until it has ended."""
    replace_commands(monkeypatch, tmp_path, f'echo "$*" >> {tmp_path / "calls"}; echo nonsense')
    workspace = Workspace(photos)
    for number in range(classes):
        await workspace.add_class("kind", f"class {number}")
    await ranked(workspace)
    workspace.rank(again=False)
    assert [line.partition("--count ")[2] for line in (tmp_path / "calls").read_text().splitlines()] == [
        f"{count} --json"
    ]


async def test_a_command_is_not_started_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_commands(monkeypatch, tmp_path, f"echo one >> {tmp_path / 'calls'}; sleep 0.2")
    command = CommandProcess()
    await asyncio.gather(command.run(["train"]), command.run(["train"]))
    assert (tmp_path / "calls").read_text() == "one\n"


async def test_nothing_is_ranked_when_all_images_have_a_label(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "labels.csv").write_text("file,kind,split\n0.png,a,\n1.png,b,\n2.png,,test\n")
    replace_commands(monkeypatch, tmp_path, f"touch {tmp_path / 'started'}")
    workspace = Workspace(photos)
    workspace.rank()
    assert (workspace.unlabelled(), workspace.ranker.running, workspace.problem) == (0, False, "")
    await asyncio.sleep(0.2)
    assert not (tmp_path / "started").exists()


async def test_a_command_that_ignores_its_end_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output ends only when both processes have ended, which have it open."""
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    replace_commands(monkeypatch, tmp_path, "trap '' TERM\nsleep 60 &\necho started\nwait")
    command = CommandProcess()
    running = asyncio.create_task(command.run(["train"]))
    while not command.lines:
        await asyncio.sleep(0.01)
    await command.stop()
    assert not command.running
    async with asyncio.timeout(30):
        await running
    assert command.code == -9


async def test_browsers_store_images_of_this_workspace_alone(photos: Path) -> None:
    app, workspace = FastAPI(), Workspace(photos)
    add_image_route(app, workspace)
    other = Workspace(photos)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answers = [await client.get("/label/image.png", params={"n": 0, "v": v.version}) for v in (workspace, other)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.headers["cache-control"] for answer in answers] == ["private, max-age=60", "no-store"]


def test_a_large_jpeg_is_decoded_at_a_smaller_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (LONGEST * 4, LONGEST * 4), (200, 30, 30)).save(path)
    reduced: list[tuple[int, int]] = []
    monkeypatch.setattr(Image.Image, "thumbnail", lambda image, *_: reduced.append(image.size))
    with Image.open(io.BytesIO(picture_of(path))) as shown:
        assert shown.size == (LONGEST, LONGEST)
    assert reduced == []


async def test_an_image_that_is_too_large_is_an_answer_with_its_size(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 0)
    app = FastAPI()
    add_image_route(app, Workspace(photos))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/label/image.png", params={"n": 0})
    assert answer.status_code == 422
    assert answer.text == "it has 4x4 pixels, too many to be shown"
