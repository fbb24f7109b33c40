"""Tests of a repository and its watcher when versions are added, changed and removed."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from partedvae.serving import bundle_files
from partedvae.serving.bundle import Bundle
from partedvae.serving.errors import BundleError, ModelNotFoundError
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.repository.version_cache import CAPACITY
from partedvae.serving.repository.watcher import RepositoryWatcher
from tests.bundles import COLOURED, GREY
from tests.processes import wait_until
from tests.serving.repository.test_repository import truncated_graph, wrong_checksum


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder with `tiny` version 1."""
    GREY.write(tmp_path / "tiny")
    return tmp_path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of versions whose load was attempted."""
    tried: list[int] = []
    load = OnnxModel.load

    def counted(bundle: Bundle, *args: Any) -> OnnxModel:
        tried.append(bundle.version)
        return load(bundle, *args)

    monkeypatch.setattr(OnnxModel, "load", counted)
    return tried


def table(repository: ModelRepository) -> list[tuple[str, int, bool, bool]]:
    return [(s.name, s.version, s.ready, s.is_default) for s in repository.statuses()]


def test_new_version_and_new_model(models: Path, loads: list[int]) -> None:
    """New versions are loaded once, unchanged ones are not loaded again; an only model needs no name."""
    repository = ModelRepository(models)
    first = repository.loaded()
    repository.refresh()
    assert repository.loaded() is first
    GREY.write(models / "tiny")
    assert repository.get().version == 1
    repository.refresh()
    repository.refresh()
    second = repository.loaded()
    assert second is not None
    assert second.version == 2
    assert repository.loaded("tiny") is repository.get("tiny", 2) is second
    assert loads == [1, 2]
    COLOURED.write(models / "shapes")
    repository.refresh()
    assert table(repository) == [("shapes", 1, True, True), ("tiny", 1, True, False), ("tiny", 2, True, True)]
    assert repository.loaded() is None
    assert repository.loaded("tiny") is second


def test_a_new_version_is_warmed_before_it_answers(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a version is loaded and warmed up, the previous one is used, and the new one is not listed."""
    repository = ModelRepository(models)
    GREY.write(models / "tiny")
    seen = []
    warm_up = OnnxModel.warm_up

    def spy(model: OnnxModel) -> None:
        warm_up(model)
        seen.append((model.version, repository.get().version, table(repository)))

    monkeypatch.setattr(OnnxModel, "warm_up", spy)
    repository.refresh()
    assert seen == [(2, 1, [("tiny", 1, True, True)])]
    assert repository.get().version == 2


def test_the_old_version_ends_with_the_last_request(models: Path) -> None:
    """A replaced model is freed with its last user."""
    repository = ModelRepository(models)
    held = repository.get()
    gone = weakref.ref(held)
    GREY.write(models / "tiny")
    repository.refresh()
    assert held.encode(GREY.random_images(2), ["z_mean"])["z_mean"].shape == (2, 4)
    del held
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("break_it", [wrong_checksum, truncated_graph])
def test_a_broken_new_version_is_refused(
    models: Path,
    break_it: Callable[[Path], None],
    loads: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is tried once, logged once and listed with its reason; the old one is used until the files are repaired."""
    repository = ModelRepository(models)
    folder = GREY.write(models / "tiny").folder
    good = models / ".good"
    shutil.copytree(folder, good)
    break_it(folder)
    for _ in range(3):
        repository.refresh()
    assert repository.get().version == 1
    assert table(repository) == [("tiny", 1, True, True), ("tiny", 2, False, False)]
    assert caplog.text.count("refused: ") == 1
    assert "encoder.onnx is" in repository.statuses()[1].reason
    assert len(loads) <= 2
    with pytest.raises(BundleError, match=r"encoder\.onnx is"):
        repository.get("tiny", 2)
    assert repository.loaded("tiny", 2) is None
    shutil.rmtree(folder)
    good.rename(folder)
    repository.refresh()
    assert repository.get().version == 2
    assert repository.statuses()[1].reason == ""


def test_a_loaded_version_outlives_its_files(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the only version is overwritten with garbage, the loaded model stays in use until the files are repaired."""
    repository = ModelRepository(models)
    before = repository.get()
    folder = models / "tiny" / "1"
    whole = (folder / "encoder.onnx").read_bytes()
    (folder / "encoder.onnx").write_bytes(b"garbage")
    repository.refresh()
    repository.refresh()
    assert repository.get() is before
    (status,) = repository.statuses()
    assert (status.ready, status.is_default) == (True, True)
    assert "encoder.onnx is damaged" in status.reason
    assert caplog.text.count("tiny version 1 stays as loaded, because its changed files do not work") == 1
    (folder / "encoder.onnx").write_bytes(whole)
    repository.refresh()
    assert repository.get() is not before
    assert repository.statuses()[0].reason == ""


def test_deleted_versions_and_models_disappear(two_models: Path, tmp_path: Path) -> None:
    """After the newest version is deleted, the previous one is used; without any model, the error has a remedy."""
    models = tmp_path / "models"
    shutil.copytree(two_models, models)
    repository = ModelRepository(models)
    shutil.rmtree(models / "tiny" / "2")
    shutil.rmtree(models / "shapes")
    repository.refresh()
    assert table(repository) == [("tiny", 1, True, True)]
    assert repository.get().version == 1
    with pytest.raises(ModelNotFoundError, match=r"has no version 2: there are \[1\]"):
        repository.get("tiny", 2)
    shutil.rmtree(models / "tiny")
    repository.refresh()
    assert table(repository) == []
    assert repository.loaded() is None
    with pytest.raises(ModelNotFoundError, match="there are no models: export one into"):
        repository.get()


def test_a_folder_that_vanishes_changes_nothing(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A models folder that is not readable for a while (a network file system) is logged once."""
    repository = ModelRepository(models)
    models.rename(models.with_name("away"))
    repository.refresh()
    repository.refresh()
    assert repository.get().version == 1
    assert caplog.text.count("keeping those that are loaded") == 1
    models.with_name("away").rename(models)
    GREY.write(models / "tiny")
    repository.refresh()
    assert repository.get().version == 2


def test_older_versions_stay_loaded_up_to_a_limit(models: Path) -> None:
    """Of the older versions only the most recently used ones stay loaded."""
    for _ in range(CAPACITY + 1):
        GREY.write(models / "tiny")
    repository = ModelRepository(models)
    older = range(1, CAPACITY + 2)
    assert all(repository.loaded("tiny", number) is None for number in older)
    for number in older[:-1]:
        repository.get("tiny", number)
    assert repository.loaded("tiny", 1) is not None  # Used again: now 2 is the least recently used.
    repository.get("tiny", older[-1])
    assert [repository.loaded("tiny", number) is not None for number in older] == [True, False, True]
    GREY.write(models / "tiny")
    repository.refresh()
    assert repository.loaded("tiny", 1) is not None
    shutil.rmtree(models / "tiny" / "1")
    repository.refresh()
    assert repository.loaded("tiny", 1) is None


def test_a_graph_that_fails_when_it_is_run(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that can be loaded but not run is detected by the warm-up and refused."""
    repository = ModelRepository(models)
    GREY.write(models / "tiny")

    def fail(model: OnnxModel) -> None:
        raise BundleError(f"version {model.version} fails when it is run")

    monkeypatch.setattr(OnnxModel, "warm_up", fail)
    repository.refresh()
    assert repository.get().version == 1
    assert repository.statuses()[1].reason == "version 2 fails when it is run"


def test_watcher_polls(models: Path) -> None:
    """With a period, new versions are loaded in the background."""
    repository = ModelRepository(models)
    with RepositoryWatcher(repository, 0.01):
        GREY.write(models / "tiny")
        wait_until(lambda: repository.get().version == 2)
    wait_until(lambda: "partedvae-watcher" not in [thread.name for thread in threading.enumerate()])


def test_watcher_refreshes_on_request(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a period it refreshes on request; an unexpected exception does not end its thread."""
    repository = ModelRepository(models)
    refresh = repository.refresh
    looked: list[str] = []
    requests: SimpleQueue[None] = SimpleQueue()

    def spy() -> None:
        looked.append(threading.current_thread().name)
        if len(looked) == 1:
            raise RuntimeError("a bug")
        refresh()

    monkeypatch.setattr(repository, "refresh", spy)
    with caplog.at_level(logging.ERROR), RepositoryWatcher(repository, 0, requests):
        GREY.write(models / "tiny")
        requests.put(None)
        wait_until(lambda: len(looked) == 1)
        wait_until(lambda: "looking for new models failed" in caplog.text)
        assert repository.get().version == 1
        requests.put(None)
        wait_until(lambda: repository.get().version == 2)
    assert looked == ["partedvae-watcher"] * 2


@pytest.mark.parametrize("name", ["manifest.json", "encoder.onnx", "scorer.onnx"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_version_that_could_not_be_read_is_used_when_it_can(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, number: int
) -> None:
    """An error of the file system is logged once, listed while it lasts, and forgotten when it has passed."""
    repository = ModelRepository(models)
    GREY.write(models / "tiny")

    def failing(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == name and path.parent.name == "2":
            raise OSError(number, os.strerror(number), str(path))
        return open(path, *args, **kwargs)  # noqa: PTH123  # as in the module

    with monkeypatch.context() as patched:
        patched.setattr(bundle_files, "open", failing, raising=False)
        for _ in range(3):
            repository.refresh()
        assert table(repository) == [("tiny", 1, True, True), ("tiny", 2, False, False)]
        assert os.strerror(number) in repository.statuses()[1].reason
        assert [record.message.startswith("refused: ") for record in caplog.records].count(True) == 1
    repository.refresh()
    assert table(repository) == [("tiny", 1, True, False), ("tiny", 2, True, True)]


def test_a_loaded_version_whose_new_files_cannot_be_read_is_replaced_when_they_can(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ModelRepository(models)
    before = repository.get()

    def failing(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "decoder.onnx":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return open(path, *args, **kwargs)  # noqa: PTH123  # as in the module

    os.utime(models / "tiny" / "1" / "manifest.json", ns=(1, 1))
    with monkeypatch.context() as patched:
        patched.setattr(bundle_files, "open", failing, raising=False)
        repository.refresh()
        assert repository.get() is before
        assert "Input/output error" in repository.statuses()[0].reason
    repository.refresh()
    assert repository.get() is not before
    assert repository.statuses()[0].reason == ""
