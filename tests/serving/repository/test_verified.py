"""Tests that what is loaded is what was verified, also where files change after they were found."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partedvae.serving import bundle_files
from partedvae.serving.bundle import DECODER_FILE, ENCODER_FILE, Bundle
from partedvae.serving.errors import BundleError
from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.repository.watcher import RepositoryWatcher
from tests.bundles import GREY
from tests.processes import wait_until

OTHER = replace(GREY, seed=7)
"""A model of the same layers with other weights."""
IMAGES = GREY.random_images(3)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder with `tiny` versions 1 and 2."""
    GREY.write(tmp_path / "tiny")
    GREY.write(tmp_path / "tiny")
    return tmp_path


def test_a_version_that_changed_after_it_was_found_is_not_loaded(models: Path) -> None:
    """A version that is loaded on first use is verified again then, and works again when its files are right."""
    repository = ModelRepository(models)
    encoder = models / "tiny" / "1" / ENCODER_FILE
    whole = encoder.read_bytes()
    encoder.write_bytes(OTHER.encoder_graph().SerializeToString())
    with pytest.raises(BundleError, match=r"tiny/1/encoder\.onnx is damaged: its SHA-256 is"):
        repository.get("tiny", 1)
    assert [(s.version, s.ready) for s in repository.statuses()] == [(1, False), (2, True)]
    encoder.write_bytes(whole)
    repository.refresh()
    encoded = repository.get("tiny", 1).encode(IMAGES, ["z_mean"])
    np.testing.assert_allclose(encoded["z_mean"], GREY.encode(IMAGES)["z_mean"], atol=1e-5)


def test_a_version_that_was_unloaded_is_verified_again(models: Path) -> None:
    repository = ModelRepository(models)
    repository.get("tiny", 1)
    repository.find("tiny", 1).unload()
    (models / "tiny" / "1" / DECODER_FILE).write_bytes(OTHER.decoder_graph().SerializeToString())
    with pytest.raises(BundleError, match=r"tiny/1/decoder\.onnx is damaged"):
        repository.get("tiny", 1)


def test_a_version_that_was_replaced_as_a_whole_is_loaded(models: Path) -> None:
    """Its new manifest is read with its new graphs, before a refresh has found them."""
    repository = ModelRepository(models)
    shutil.rmtree(models / "tiny" / "1")
    OTHER.write(models / ".new").folder.rename(models / "tiny" / "1")
    encoded = repository.get("tiny", 1).encode(IMAGES, ["z_mean"])
    np.testing.assert_allclose(encoded["z_mean"], OTHER.encode(IMAGES)["z_mean"], atol=1e-5)


def test_files_that_change_while_they_are_loaded(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session has the bytes that were verified, whatever is in the file by the time that it is opened."""
    read_graph = Bundle.read_graph

    def spy(bundle: Bundle, path: Path) -> bytes:
        content = read_graph(bundle, path)
        path.write_bytes(b"something else")
        return content

    monkeypatch.setattr(Bundle, "read_graph", spy)
    model = ModelRepository(models).get()
    np.testing.assert_allclose(model.encode(IMAGES, ["z_mean"])["z_mean"], GREY.encode(IMAGES)["z_mean"], atol=1e-5)
    u, z = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    np.testing.assert_allclose(model.decode(u, z), GREY.decode(u, z), atol=1)
    assert model.has_scores


def test_a_change_that_only_the_time_of_change_shows(models: Path) -> None:
    """A refused version whose file is repaired in place, with its old size and modification time, works again."""
    encoder = models / "tiny" / "2" / ENCODER_FILE
    whole, before = encoder.read_bytes(), encoder.stat()
    encoder.write_bytes(bytes(len(whole)))
    os.utime(encoder, ns=(before.st_atime_ns, before.st_mtime_ns))
    repository = ModelRepository(models)
    assert repository.get().version == 1
    encoder.write_bytes(whole)
    os.utime(encoder, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = encoder.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    repository.refresh()
    assert repository.get().version == 2


class Unreadable:
    """Fails to open files of one version, a number of times, as a network file system does."""

    def __init__(self, version: str, times: int) -> None:
        self._version, self._left = version, times

    def __call__(self, path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.parent.name == self._version and self._left:
            self._left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return open(path, *args, **kwargs)  # noqa: PTH123  # as in the module


def test_an_error_that_passes_is_not_seen_at_the_start(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_files, "open", Unreadable("2", times=2), raising=False)
    repository = ModelRepository(models)
    assert [(s.version, s.reason, s.is_default) for s in repository.statuses()] == [(1, "", False), (2, "", True)]


def test_an_error_that_passes_is_not_seen_by_a_caller(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = ModelRepository(models)
    monkeypatch.setattr(bundle_files, "open", Unreadable("1", times=1), raising=False)
    assert repository.get("tiny", 1).version == 1


def test_what_could_not_be_read_is_read_again_without_a_period(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher that looks only on request looks again by itself while something could not be read."""
    monkeypatch.setattr("partedvae.serving.repository.watcher.FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(bundle_files, "open", Unreadable("2", times=7), raising=False)
    repository = ModelRepository(models)
    assert repository.get().version == 1
    assert "Input/output error" in repository.statuses()[1].reason
    assert repository.may_recover()
    with RepositoryWatcher(repository, 0):
        wait_until(lambda: repository.get().version == 2)
    assert not repository.may_recover()


def test_a_surprise_in_one_bundle_does_not_stop_others(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any exception refuses that version, also of lack of memory, and the rest is served."""
    verify = Bundle.verify

    def fail(bundle: Bundle) -> None:
        if bundle.version == 2:
            raise MemoryError("no room")
        if bundle.version == 3:
            raise ZeroDivisionError("a bug")
        verify(bundle)

    monkeypatch.setattr(Bundle, "verify", fail)
    repository = ModelRepository(models)
    assert repository.get().version == 1
    GREY.write(models / ".new").folder.rename(models / "tiny" / "3")
    GREY.write(models / ".new").folder.rename(models / "tiny" / "4")
    repository.refresh()
    assert [s.reason for s in repository.statuses()] == [
        "",
        "tiny/2 cannot be read: MemoryError: no room; it is read again until it can be",
        "tiny/3 cannot be read: ZeroDivisionError: a bug; export the run again",
        "",
    ]
    assert repository.get().version == 4
