"""Tests of a folder of models with entries that are no models, or cannot be read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from partedvae.serving.errors import BundleError
from partedvae.serving.repository.folders import list_models
from partedvae.serving.repository.loading import load_model
from partedvae.serving.repository.repository import SKIPPED_SHOWN, ModelRepository
from tests.bundles import GREY

DENIED = "Permission denied"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder with `tiny` version 1."""
    GREY.write(tmp_path / "tiny")
    return tmp_path


def skipped(text: str) -> list[str]:
    """Return the skipped paths that a log names, as Python literals."""
    return re.findall("skipped ('.*?'):", text)


def test_whatever_is_in_the_folder(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Links to nothing, pipes, files and names that no message can have are skipped, each said once."""
    for name in ("new\nline", os.fsdecode(b"bad\xff"), "\u202etxt"):
        shutil.copytree(models / "tiny", models / name)
    for name in ("007", "٣", "latest"):
        shutil.copytree(models / "tiny" / "1", models / "tiny" / name)
    shutil.copytree(models / "tiny" / "1", models / "words" / "v1")
    (models / "gone").symlink_to("nowhere")
    (models / "loop").symlink_to("loop")
    (models / "linked").symlink_to("tiny")
    (models / "README.md").write_text("about these models")
    os.mkfifo(models / "pipe")
    (models / "empty").mkdir()
    (models / ".hidden").symlink_to("nowhere")
    repository = ModelRepository(models)
    for _ in range(2):
        repository.refresh()
    assert [(s.name, s.version, s.ready) for s in repository.statuses()] == [("linked", 1, True), ("tiny", 1, True)]
    assert {name: reason.split(";")[0] for name, reason in list_models(models).skipped.items()} == {
        "README.md": "it is not a folder",
        "bad\udcff": "its name is not printable text",
        "gone": "it is a link to nothing",
        "loop": "it is a link to itself",
        "new\nline": "its name is not printable text",
        "pipe": "it is not a folder",
        "words": "it has no version",
        "\u202etxt": "its name is not printable text",
        **{
            f"{name}/{entry}": "its name is not an integer from 1 to 9223372036854775807 without leading zeros"
            for name in ("linked", "tiny")
            for entry in ("007", "latest", "٣")
        },
    }
    logged = skipped(caplog.text)
    assert repr(str(models / "new\nline")) in logged
    assert len(logged) == len(set(logged)) == 14
    GREY.write(models / "tiny")
    repository.refresh()
    assert repository.get("tiny").version == 2
    assert len(skipped(caplog.text)) == 14


def test_a_skipped_entry_is_said_again_after_it_changed(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is repaired and broken again is in the log again."""
    repository = ModelRepository(models)
    for _ in range(2):
        (models / "tiny" / "2").symlink_to("nowhere")
        repository.refresh()
        (models / "tiny" / "2").unlink()
        repository.refresh()
    assert skipped(caplog.text) == [repr(str(models / "tiny" / "2"))] * 2


def test_many_skipped_entries_do_not_fill_the_log(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1000):
        (models / "tiny" / f"v{number}").mkdir()
    ModelRepository(models)
    assert len(skipped(caplog.text)) == SKIPPED_SHOWN
    assert f"skipped {1000 - SKIPPED_SHOWN} more in {models}" in caplog.text


def test_the_error_of_a_folder_without_models_names_what_is_skipped(tmp_path: Path) -> None:
    shutil.copytree(GREY.write(tmp_path / "x").folder, tmp_path / "models" / "tiny" / "v1")
    with pytest.raises(BundleError, match=r"'tiny' is skipped, because it has no version; 'v1' is skipped, because"):
        ModelRepository(tmp_path / "models")
    with pytest.raises(BundleError, match=r"holds no version of a model; .*'v1' is skipped, because its name is not"):
        load_model(tmp_path / "models" / "tiny")


@pytest.mark.parametrize("load", [ModelRepository, load_model])
def test_a_folder_that_cannot_be_listed(tmp_path: Path, load: Callable[[Path], object]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BundleError, match=r"loop cannot be listed: .*; check the path and its permissions"):
        load(tmp_path / "loop")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that other users can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def refresh(open_folder: Path) -> Iterator[Callable[[], dict[str, str]]]:
    """Return a function that returns the states of all versions in a process without privileges.

    The first call starts it, each further one refreshes its repository.
    """
    program = [sys.executable, "-m", "tests.serving.repository.refresh_as_user", str(open_folder)]
    process: list[subprocess.Popen[str]] = []

    def states() -> dict[str, str]:
        if process:
            assert process[0].stdin is not None
            process[0].stdin.write("\n")
            process[0].stdin.flush()
        else:
            pipe = subprocess.PIPE
            with (open_folder / ".log").open("w") as log:
                process.append(subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=log, text=True))
        assert process[0].stdout is not None
        line = process[0].stdout.readline()
        assert line, (open_folder / ".log").read_text()
        found: dict[str, str] = json.loads(line)
        return found

    yield states
    if process:
        _, _ = process[0].communicate()
        assert process[0].returncode == 0


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_may_not_be_read_is_skipped_until_it_may(open_folder: Path, refresh: Callable[[], dict[str, str]]) -> None:
    """Folders and files of another user: others are served, new versions are found, and chmod makes them work."""
    for _ in range(4):
        GREY.write(open_folder / "tiny")
    GREY.write(open_folder / "closed")
    (open_folder / "lost+found").mkdir()
    GREY.write(open_folder / "other")
    modes = {
        open_folder / "lost+found": 0o000,
        open_folder / "other": 0o000,
        open_folder / "closed": 0o444,  # It can be listed, and nothing in it can be looked at.
        open_folder / "tiny" / "2": 0o000,
        open_folder / "tiny" / "3": 0o444,
        open_folder / "tiny" / "4" / "encoder.onnx": 0o000,
    }
    for path, mode in modes.items():
        path.chmod(mode)
    try:
        for states in (refresh(), refresh(), refresh()):
            assert states.pop("tiny/1") == "default"
            assert states.keys() == {"closed/1", "tiny/2", "tiny/3", "tiny/4"}
            assert all(DENIED in reason and str(open_folder) not in reason for reason in states.values())
        GREY.write(open_folder / "tiny")
        assert refresh()["tiny/5"] == "default"
        log = (open_folder / ".log").read_text()
        assert skipped(log) == [repr(str(open_folder / name)) for name in ("lost+found", "other")]
        assert log.count("refused: ") == 4
        assert "Traceback" not in log
    finally:
        for path in modes:
            path.chmod(0o755)
    states = refresh()
    assert states.pop("tiny/5") == states.pop("closed/1") == states.pop("other/1") == "default"
    assert states == {f"tiny/{number}": "ready" for number in (1, 2, 3, 4)}


@pytest.mark.slow
def test_a_model_whose_folder_cannot_be_listed_for_a_while_stays(
    open_folder: Path, refresh: Callable[[], dict[str, str]]
) -> None:
    """It is served as before, and other models are found."""
    GREY.write(open_folder / "tiny")
    assert refresh() == {"tiny/1": "default"}
    (open_folder / "tiny").chmod(0o000)
    try:
        GREY.write(open_folder / "other")
        assert refresh() == {"other/1": "default", "tiny/1": "default"}
    finally:
        (open_folder / "tiny").chmod(0o755)
    GREY.write(open_folder / "tiny")
    assert refresh() == {"other/1": "default", "tiny/1": "ready", "tiny/2": "default"}
