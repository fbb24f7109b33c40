"""Tab completion of data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from partedvae.cli.main import main
from partedvae.training.data.names import NAMES
from partedvae.training.data.registry import ENTRIES


def completed(arguments: list[str], incomplete: str) -> list[str]:
    completion = ShellComplete(main, {}, "partedvae", "_PARTEDVAE_COMPLETE")
    return [item.value for item in completion.get_completions(arguments, incomplete)]


def test_the_names_are_those_of_the_registry() -> None:
    assert tuple(ENTRIES) == NAMES


@pytest.mark.parametrize("arguments", [["train"], ["describe"], ["data", "get"], ["data", "check"]])
def test_data_sets_are_completed(arguments: list[str]) -> None:
    assert completed(arguments, "f") == ["fashion-mnist", "faces", "faces-large", "folder:"]


def test_folders_of_images_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photos", "phones", "scans"):
        (tmp_path / name / "inner").mkdir(parents=True)
    (tmp_path / "photo.png").touch()
    monkeypatch.chdir(tmp_path)
    assert completed(["train"], "folder:ph") == ["folder:phones", "folder:photos"]
    assert completed(["train"], "folder:scans/") == ["folder:scans/inner"]
    assert completed(["train"], "folder:none/") == []


def test_commands_and_options_are_completed() -> None:
    assert completed([], "tra") == ["train", "transfer", "traverse"]
    assert "--resume" in completed(["train", "mnist"], "--re")
