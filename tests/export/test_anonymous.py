"""A bundle says nothing of the machine that exported it."""

from __future__ import annotations

from pathlib import Path

import pytest

import partedvae
from partedvae.export.exporter import export_run
from partedvae.serving.bundle import DECODER_FILE, ENCODER_FILE, SCORER_FILE, shared_name


@pytest.mark.slow
def test_two_exports_are_equal_and_have_no_path(
    small_run: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter of PyTorch attaches the stack to each node: source lines, and paths of the installation."""
    run, data = small_run.resolve(), data_dir.resolve()
    bundles = []
    for place in ("here", "elsewhere"):
        folder = tmp_path / place
        folder.mkdir()
        monkeypatch.chdir(folder)
        bundles.append(export_run(run, Path("models") / "mnist", data))
        bundles[-1] = type(bundles[-1])(folder=bundles[-1].folder.resolve(), manifest=bundles[-1].manifest)
    first, second = bundles
    for name in (ENCODER_FILE, DECODER_FILE, SCORER_FILE):
        content = (first.folder / name).read_bytes()
        assert content == (second.folder / name).read_bytes()
        for secret in (Path(partedvae.__file__).parents[1], Path.home(), tmp_path):
            assert str(secret).encode() + b"/" not in content
        assert b".py" not in content
    for bundle in bundles:
        bundle.manifest.ClearField("created")
    assert first.manifest == second.manifest


@pytest.mark.parametrize(
    ("dataset", "shared"),
    [
        ("folder:/home/someone/photos/", "folder:photos"),
        ("folder:photos", "folder:photos"),
        ("folder:../../someone/photos", "folder:photos"),
        ("mnist", "mnist"),
    ],
)
def test_the_manifest_names_a_folder_of_images_without_the_path_to_it(dataset: str, shared: str) -> None:
    assert shared_name(dataset) == shared
