"""A bundle says nothing of the machine that exported it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import partedvae
from partedvae.export.exporter import export_run
from partedvae.serving.bundle import DECODER_FILE, ENCODER_FILE, SCORER_FILE, write_bundle
from partedvae.serving.manifest import MANIFEST_FILE, shared_name
from tests.bundles import TinyModel


@pytest.mark.exhaustive
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
    texts = [(bundle.folder / MANIFEST_FILE).read_text(encoding="utf-8") for bundle in bundles]
    created = [str(json.loads(text)["created"]) for text in texts]
    assert texts[0].replace(created[0], created[1]) == texts[1]


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


def test_the_order_of_a_manifest_is_that_of_the_names(tmp_path: Path) -> None:
    """Two processes iterate over the same protobuf map in different orders."""
    bundle = TinyModel().write(tmp_path / "tiny")
    names = [f"measure/{k}" for k in range(50)]
    bundle.manifest.measures.update(dict.fromkeys(reversed(names), 0.5))

    def write_graphs(folder: Path) -> None:
        for file in bundle.manifest.files:
            (folder / file.name).write_bytes((tmp_path / "tiny" / "1" / file.name).read_bytes())

    written = write_bundle(tmp_path / "tiny", bundle.manifest, write_graphs)
    text = (written.folder / MANIFEST_FILE).read_text(encoding="utf-8")
    assert list(json.loads(text)["measures"]) == sorted(names)
    assert written.manifest.measures == dict.fromkeys(names, 0.5)
