"""Tests of `partedvae.serving.grpc.model_loader` with real models whose loading can be held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from partedvae.serving.bundle import Bundle
from partedvae.serving.errors import BundleError, InvalidInputError, ModelNotFoundError, TooManyLoadsError
from partedvae.serving.grpc.model_loader import MAX_LOADS, ModelLoader
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository import version_cache
from partedvae.serving.repository.repository import ModelRepository
from tests.bundles import GREY
from tests.processes import PATIENCE


class Gate:
    """Holds loads after the start until it is opened, and records them."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.loads: list[tuple[str, int, str]] = []
        self.active = self.most_active = 0

    def __enter__(self) -> None:
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        assert self.opened.wait(PATIENCE)

    def __exit__(self, *exc_info: object) -> None:
        self.active -= 1


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder with `a`, `b` and `c`, three versions each."""
    for name in "abc":
        for _ in range(3):
            GREY.write(tmp_path / name)
    return tmp_path


@pytest.fixture
def repository(models: Path) -> ModelRepository:
    return ModelRepository(models, "cpu", 1)


@pytest.fixture
def gate(repository: ModelRepository, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    load = OnnxModel.load

    def held(bundle: Bundle, *args: Any) -> OnnxModel:
        gate.loads.append((bundle.name, bundle.version, threading.current_thread().name))
        with gate:
            return load(bundle, *args)

    monkeypatch.setattr(OnnxModel, "load", held)
    yield gate
    gate.opened.set()


async def turns() -> None:
    """Let other tasks run."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_callers_of_a_version_share_a_load(repository: ModelRepository, gate: Gate) -> None:
    """It is loaded once, in a thread of its own, and the default versions can be used meanwhile."""
    loader = ModelLoader(repository)
    calls = [asyncio.create_task(loader.load("a", 1)) for _ in range(10)]
    await turns()
    default = repository.loaded("a")
    assert default is not None
    assert default.version == 3
    assert not any(call.done() for call in calls)
    gate.opened.set()
    assert {id(model) for model in await asyncio.gather(*calls)} == {id(repository.loaded("a", 1))}
    assert gate.loads == [("a", 1, "partedvae-loader")]


async def test_one_at_a_time_and_few_wait(repository: ModelRepository, gate: Gate) -> None:
    """Above a number of waiting versions calls are refused with a retry delay."""
    loader = ModelLoader(repository)
    wanted = [(name, version) for name in "abc" for version in (1, 2)]
    calls = [asyncio.create_task(loader.load(*each)) for each in wanted[:MAX_LOADS]]
    await turns()
    with pytest.raises(TooManyLoadsError, match="4 versions of models are waiting to be loaded: try again in 1 s, or"):
        await loader.load(*wanted[MAX_LOADS])
    gate.opened.set()
    assert [(model.name, model.version) for model in await asyncio.gather(*calls)] == wanted[:MAX_LOADS]
    assert (await loader.load(*wanted[MAX_LOADS])).name == "c"
    assert gate.most_active == 1


async def test_a_caller_of_every_version_is_refused(models: Path, gate: Gate) -> None:
    """The third old version within seconds is refused; those in use stay loaded, and nothing is loaded again."""
    gate.opened.set()
    GREY.write(models / "a")
    repository = ModelRepository(models, "cpu", 1)
    loader = ModelLoader(repository)
    gate.loads.clear()
    delays = []
    for _ in range(20):
        for version in (1, 2):
            assert (repository.loaded("a", version) or await loader.load("a", version)).version == version
        with pytest.raises(
            TooManyLoadsError, match="2 older versions of model 'a' are in use, and no more stay"
        ) as error:
            await loader.load("a", 3)
        delays.append(error.value.retry_after)
    assert 0 < min(delays) <= max(delays) <= version_cache.IN_USE_SECONDS
    assert [version for _, version, _ in gate.loads] == [1, 2]


async def test_a_stream_waits(repository: ModelRepository, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocking call is not refused: it waits until the version may be loaded."""
    monkeypatch.setattr(version_cache, "BURST", 1)
    gate.opened.set()
    loader = ModelLoader(repository)
    await loader.load("a", 1)
    with pytest.raises(TooManyLoadsError, match="just been loaded"):
        await loader.load("b", 1)
    assert (await loader.load("b", 1, blocking=True)).name == "b"


async def test_a_load_goes_on_when_its_caller_has_gone(repository: ModelRepository, gate: Gate) -> None:
    loader = ModelLoader(repository)
    call = asyncio.create_task(loader.load("a", 1))
    await turns()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.opened.set()
    assert (await loader.load("a", 1)).version == 1
    assert len(gate.loads) == 1


async def test_errors_need_no_thread(repository: ModelRepository, gate: Gate) -> None:
    """Versions that do not exist are refused immediately; so are names of any length."""
    loader = ModelLoader(repository)
    for version, kind, message in (
        (9, ModelNotFoundError, r"model 'a' has no version 9: there are \[1, 2, 3\]"),
        (2**63 - 1, ModelNotFoundError, "has no version 9223372036854775807"),
        (-1, InvalidInputError, "version -1 is negative; choose a version, or 0 for the newest that works"),
    ):
        with pytest.raises(kind, match=message):
            await loader.load("a", version)
    with pytest.raises(ModelNotFoundError, match=r"no model is named 'x{199}…'"):
        await loader.load("x" * 10_000_000, 1)
    assert gate.loads == []


async def test_a_version_that_cannot_be_loaded(models: Path, repository: ModelRepository, gate: Gate) -> None:
    """Its callers get the reason, later ones without another attempt, and it takes no room."""
    gate.opened.set()
    (models / "a" / "1" / "encoder.onnx").write_bytes(b"garbage")
    loader = ModelLoader(repository)
    calls = [asyncio.create_task(loader.load("a", 1)) for _ in range(2)]
    for call in calls:
        with pytest.raises(BundleError, match=r"a/1/encoder\.onnx is damaged"):
            await call
    with pytest.raises(BundleError, match=r"a/1/encoder\.onnx is damaged"):
        await loader.load("a", 1)
    assert len(gate.loads) == 1
    assert (await loader.load("a", 2)).version == 2


async def test_many_versions_are_not_all_listed(tmp_path: Path) -> None:
    """The error of a missing version has those at the ends."""
    folder = GREY.write(tmp_path / "tiny").folder
    for number in range(2, 101):
        (folder.parent / str(number)).symlink_to("1")
    loader = ModelLoader(ModelRepository(tmp_path, "cpu", 1))
    with pytest.raises(
        ModelNotFoundError, match=r"has no version 500: there are \[1, .*, 10, …, 91, .*, 100\] \(100 in all\)"
    ):
        await loader.load("tiny", 500)
