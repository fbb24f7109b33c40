"""Tests of `partedvae.serving.repository.repository`, and of the bundles that it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from partedvae.serving.bundle import ENCODER_FILE
from partedvae.serving.bundle_files import sha256_of
from partedvae.serving.errors import BundleError, DeviceError, InvalidInputError, ModelNotFoundError
from partedvae.serving.manifest import MANIFEST_FILE
from partedvae.serving.repository.loading import load_model
from partedvae.serving.repository.repository import ModelRepository
from tests.bundles import GREY


def wrong_checksum(folder: Path) -> None:
    with (folder / ENCODER_FILE).open("ab") as file:
        file.write(b"\0")


def missing_graph(folder: Path) -> None:
    (folder / ENCODER_FILE).unlink()


def missing_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


def damaged_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_text("{")


def future_format(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(format_version=99))


def truncated_graph(folder: Path) -> None:
    """Truncate the encoder, and make the checksum right again."""
    path = folder / ENCODER_FILE
    path.write_bytes(path.read_bytes()[:500])

    def update(manifest: dict[str, list[dict[str, str]]]) -> None:
        for file in manifest["files"]:
            file["sha256"] = sha256_of(folder / file["name"])

    edit_manifest(folder, update)


def edit_manifest(folder: Path, change: Callable[..., None]) -> None:
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


FAULTS = [
    (wrong_checksum, r"encoder\.onnx is damaged: its SHA-256 is"),
    (missing_graph, r"encoder\.onnx is missing; export the run again"),
    (missing_manifest, r"is not a bundle: manifest\.json is missing"),
    (damaged_manifest, r"manifest\.json is not a valid manifest"),
    (future_format, r"has format version 99, this version of partedvae supports 1 to 2;"),
    (truncated_graph, r"encoder\.onnx is not a graph that ONNX Runtime can load"),
]


@pytest.mark.parametrize(("break_it", "message"), FAULTS)
def test_broken_newest_version(tmp_path: Path, break_it: Callable[[Path], None], message: str) -> None:
    """A broken newest version is refused with its reason, and the next older one is used."""
    GREY.write(tmp_path / "tiny")
    break_it(GREY.write(tmp_path / "tiny").folder)
    repository = ModelRepository(tmp_path)
    assert repository.get().version == 1
    old, new = repository.statuses()
    assert (old.version, old.reason, old.is_default) == (1, "", True)
    assert (new.version, new.is_default) == (2, False)
    with pytest.raises(BundleError, match=message) as caught:
        repository.get("tiny", 2)
    assert str(caught.value) == new.reason
    assert new.reason.startswith("tiny/2")
    assert str(tmp_path) not in new.reason  # Callers of the server read it.


@pytest.mark.parametrize(("break_it", "message"), FAULTS)
def test_only_version_is_broken(tmp_path: Path, break_it: Callable[[Path], None], message: str) -> None:
    """If no model works, the constructor raises with the reasons."""
    break_it(GREY.write(tmp_path / "tiny").folder)
    with pytest.raises(BundleError, match=f"no model in .* works: .*{message}"):
        ModelRepository(tmp_path)
    with pytest.raises(BundleError, match=r"tiny/1"):
        load_model(tmp_path / "tiny")


def test_one_broken_model_among_others(tmp_path: Path) -> None:
    """A model without a working version is listed, and the others can be used."""
    GREY.write(tmp_path / "good")
    wrong_checksum(GREY.write(tmp_path / "bad").folder)
    repository = ModelRepository(tmp_path)
    assert repository.get("good").name == "good"
    with pytest.raises(BundleError, match=r"no version of model 'bad' works: .*is damaged"):
        repository.get("bad")


def test_names_and_versions(two_models: Path) -> None:
    """Models are found by name and version; 0 is the newest; an older one is loaded once, on first use."""
    repository = ModelRepository(two_models)
    assert [(s.name, s.version, s.is_default) for s in repository.statuses()] == [
        ("shapes", 1, True),
        ("tiny", 1, False),
        ("tiny", 2, True),
    ]
    assert repository.get("tiny").version == 2
    assert repository.get("tiny", 1).version == 1
    assert repository.get("tiny", 1) is repository.get("tiny", 1)
    assert repository.get("shapes", 1) is repository.get("shapes")
    with pytest.raises(InvalidInputError, match=r"there are several models; choose one of \['shapes', 'tiny'\]"):
        repository.get()
    with pytest.raises(ModelNotFoundError, match=r"no model is named 'tine': .*did you mean 'tiny'"):
        repository.get("tine")
    with pytest.raises(ModelNotFoundError, match=r"model 'tiny' has no version 3: there are \[1, 2\]"):
        repository.get("tiny", 3)


def test_the_only_model_needs_no_name(tiny_models: Path) -> None:
    """An empty name means the only model."""
    assert ModelRepository(tiny_models).get().name == "tiny"


def test_many_threads_load_once(two_models: Path) -> None:
    """Concurrent callers of a version that is not loaded get the same model."""
    repository = ModelRepository(two_models)
    with ThreadPoolExecutor(8) as executor:
        models = list(executor.map(lambda _: repository.get("tiny", 1), range(32)))
    assert len(set(map(id, models))) == 1


def test_other_things_in_the_folder_are_ignored(tmp_path: Path) -> None:
    """Hidden folders, files, folders without versions and staging folders are ignored."""
    GREY.write(tmp_path / "tiny")
    shutil.copytree(tmp_path / "tiny", tmp_path / ".trash")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "tiny" / ".staging-x").mkdir()
    (tmp_path / "tiny" / "latest").mkdir()
    assert [(s.name, s.version) for s in ModelRepository(tmp_path).statuses()] == [("tiny", 1)]


def test_no_models(tmp_path: Path) -> None:
    """A missing folder, an empty one and the folder of one model have different errors, each with a remedy."""
    with pytest.raises(BundleError, match=r"nowhere is not a folder of models; .*'partedvae export'"):
        ModelRepository(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"holds no models; .*'partedvae export'"):
        ModelRepository(tmp_path)
    GREY.write(tmp_path / "tiny")
    with pytest.raises(BundleError, match=f"is the folder of one model; serve the folder above it, {tmp_path}"):
        ModelRepository(tmp_path / "tiny")
    with pytest.raises(BundleError, match=f"1 is one version of a model; serve the folder of models, {tmp_path}$"):
        ModelRepository(tmp_path / "tiny" / "1")
    (tmp_path / "above").mkdir()
    (tmp_path / "tiny").rename(tmp_path / "above" / "tiny")
    with pytest.raises(BundleError, match=f"holds no models, but {tmp_path / 'above'} does; serve that folder"):
        ModelRepository(tmp_path)
    with pytest.raises(BundleError, match=f"abov is not a folder of models; did you mean '{tmp_path / 'above'}'"):
        ModelRepository(tmp_path / "abov")


def test_a_missing_device_is_no_broken_bundle(tiny_models: Path) -> None:
    """If CUDA is requested and not available, the constructor raises."""
    with pytest.raises(DeviceError, match="cuda"):
        ModelRepository(tiny_models, "cuda")


def test_load_model(two_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One model is loaded by its folder, newest version, or by a version's folder; also from inside the folder."""
    assert load_model(two_models / "tiny").version == 2
    old = load_model(two_models / "tiny" / "1")
    assert (old.name, old.version) == ("tiny", 1)
    monkeypatch.chdir(two_models / "tiny")
    assert load_model(Path()).name == "tiny"
    with pytest.raises(BundleError, match="holds no version of a model; export a run with 'partedvae export'"):
        load_model(tmp_path)


def test_load_model_by_version(two_models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A version can be named; without one, the newest that works is loaded, with a warning about newer ones."""
    assert load_model(two_models / "tiny", 1).version == 1
    assert load_model(two_models / "tiny" / "1", 1).version == 1
    with pytest.raises(BundleError, match=r"model 'tiny' has no version 3: there are \[1, 2\]"):
        load_model(two_models / "tiny", 3)
    with pytest.raises(BundleError, match="is version 1 of model 'tiny', not 2"):
        load_model(two_models / "tiny" / "1", 2)
    GREY.write(tmp_path / "tiny")
    wrong_checksum(GREY.write(tmp_path / "tiny").folder)
    assert load_model(tmp_path / "tiny").version == 1
    assert "loaded version 1 of" in caplog.text
    assert "encoder.onnx is damaged" in caplog.text
    with pytest.raises(BundleError, match=r"encoder\.onnx is damaged"):
        load_model(tmp_path / "tiny", 2)


def test_load_model_of_another_folder(two_models: Path, tmp_path: Path) -> None:
    """A folder of models and a path that is not a folder have their own errors."""
    with pytest.raises(BundleError, match=r"holds the models \['shapes', 'tiny'\]; pass the folder of one, .*shapes"):
        load_model(two_models)
    with pytest.raises(BundleError, match="nowhere is not a folder; pass the folder of a model"):
        load_model(tmp_path / "nowhere")
