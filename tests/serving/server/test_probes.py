"""The probes of a real server: /healthz and /readyz of the metrics' port."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from pathlib import Path

import grpc
import pytest

from partedvae.serving.server.state import ServerState
from partedvae.v1.service_pb2 import ClassifyRequest
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.bundles import GREY
from tests.processes import PATIENCE, running_server, wait_until
from tests.scraping import METRICS, active_calls, get, metrics_of
from tests.serving.faults.support import images_message

READY, NOT_READY, ALIVE = (200, "ok\n"), (503, "not serving\n"), (200, "ok\n")
WORKERS = pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.exhaustive), "2"])


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.exhaustive)])
def test_no_model(tmp_path: Path, workers: str) -> None:
    """A server whose models were all deleted is alive, and not ready until there is one again."""
    written = GREY.write(tmp_path / "tiny").folder
    with running_server(tmp_path, "--workers", workers, "--poll-seconds", "0", *METRICS) as server:
        assert get(server, "/readyz") == READY
        shutil.rmtree(written)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: get(server, "/readyz") == NOT_READY)
        assert get(server, "/healthz") == ALIVE
        GREY.write(tmp_path / "tiny")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: get(server, "/readyz") == READY)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_draining(tiny_models: Path, workers: str) -> None:
    """A server that stops is alive, and not ready, until its last call has ended; its metrics can be scraped."""
    options = ("--workers", workers, "--max-queue-delay-ms", "4000", *METRICS)
    with running_server(tiny_models, *options) as server, grpc.insecure_channel(server.address) as channel:
        call = PartedVAEServiceStub(channel).Classify.future(ClassifyRequest(images=images_message(1)))
        wait_until(lambda: active_calls(server) == 1)
        server.process.terminate()
        wait_until(lambda: get(server, "/readyz") == NOT_READY)
        assert get(server, "/healthz") == ALIVE
        assert active_calls(server) == 1
        assert call.result().model.name == "tiny"
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.slow
@WORKERS
def test_temporary_folder(tiny_models: Path, tmp_path: Path, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with metrics needs no temporary folder, and no folder that other programs share metrics in."""
    for variable in ("TMPDIR", "PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        monkeypatch.setenv(variable, str(tmp_path / "missing"))
    with running_server(tiny_models, "--workers", workers, *METRICS) as server:
        assert get(server, "/readyz") == READY
        assert metrics_of(server)['partedvae_model_versions{model="tiny",state="ready"}'] == 1
    assert list(tmp_path.iterdir()) == []


async def test_state_of_one_process() -> None:
    """It is alive while it loads, ready from when it accepts calls until it stops, and dead when its loop is held."""
    state, stop, model = ServerState(), asyncio.Event(), [True]
    beats = asyncio.Semaphore(0)
    assert (state.is_alive(0.0), state.is_ready()) == (True, False)
    async with state.beating(lambda: bool(model), stop, beats.release):
        await beats.acquire()
        assert (state.is_alive(PATIENCE), state.is_ready()) == (True, False)
        state.accepts_calls = True
        assert state.is_ready()
        model.clear()
        assert not state.is_ready()
        model.append(True)
        time.sleep(0.1)
        assert not state.is_alive(0.05)
        stop.set()
        assert not state.is_ready()
    assert state.beats == 1
