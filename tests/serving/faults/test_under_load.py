"""Tests of a server under load: versions that are added, broken and deleted, and shutdown."""

from __future__ import annotations

import logging
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.bundles import GREY
from tests.fronts import NATIVE_FRONT
from tests.processes import PATIENCE, ServerProcess, running_server, wait_until
from tests.scraping import METRICS, metrics_of
from tests.serving.faults.support import Load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_front"), NATIVE_FRONT]

MODELS = {1: GREY, 2: replace(GREY, seed=2), 3: replace(GREY, seed=3), 4: replace(GREY, seed=4)}
"""Versions with different weights, so that replies of the wrong version are detected."""


def states(server: ServerProcess) -> dict[int, tuple[str, str]]:
    """Return state and reason of each version."""
    with grpc.insecure_channel(server.address) as channel:
        reply = PartedVAEServiceStub(channel).ListModels(pb.ListModelsRequest())
    return {status.model.version: (pb.ModelState.Name(status.state), status.reason) for status in reply.models}


def test_versions_appear_break_and_go(tmp_path: Path) -> None:
    """New versions appear, a corrupt one is refused, the newest is deleted; no request fails or gets wrong numbers."""
    models, aside = tmp_path / "models", tmp_path / "aside"
    MODELS[1].write(models / "tiny")
    for version in (1, 2, 3, 4):
        MODELS[version].write(aside / "tiny")
    with (
        running_server(models, "--poll-seconds", "0.05", *METRICS) as server,
        Load(server.address, MODELS) as load,
    ):
        wait_until(lambda: load.versions[1] > 10)
        (aside / "tiny" / "2").rename(models / "tiny" / "2")
        wait_until(lambda: load.versions[2] > 10)
        # Copied file by file into the served folder, so that the server sees it incomplete; and damaged.
        (aside / "tiny" / "3" / "decoder.onnx").write_bytes(b"garbage")
        shutil.copytree(aside / "tiny" / "3", models / "tiny" / "3")
        wait_until(lambda: "decoder.onnx is damaged" in states(server).get(3, ("", ""))[1])
        assert {version: state for version, (state, _) in states(server).items()} == {
            1: "MODEL_STATE_READY",
            2: "MODEL_STATE_READY",
            3: "MODEL_STATE_BROKEN",
        }
        seen = metrics_of(server)
        assert seen['partedvae_model_versions{model="tiny",state="broken"}'] == 1
        assert seen['partedvae_model_served_version{model="tiny"}'] == 2
        answered = load.versions[2]
        wait_until(lambda: load.versions[2] > answered + 10)
        (aside / "tiny" / "4").rename(models / "tiny" / "4")
        wait_until(lambda: load.versions[4] > 10)
        shutil.rmtree(models / "tiny" / "4")
        answered = load.versions[2]
        wait_until(lambda: load.versions[2] > answered + 10)
        load.stop()
        assert load.codes.keys() == {"OK"}, load.problems
        assert load.versions.keys() == {1, 2, 4}
        assert "tiny/3/decoder.onnx is damaged" in server.log_file.read_text()


def test_reload_at_sighup(tmp_path: Path) -> None:
    """Without polling, a new version is loaded on SIGHUP."""
    MODELS[1].write(tmp_path / "tiny")
    with running_server(tmp_path, "--poll-seconds", "0") as server:
        MODELS[2].write(tmp_path / "tiny")
        assert states(server).keys() == {1}
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: states(server).keys() == {1, 2})


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.exhaustive), "2"])
def test_sigterm_loses_no_accepted_request(tiny_models: Path, workers: str) -> None:
    """Calls that were admitted succeed, all others get UNAVAILABLE, and the exit code is 0."""
    options = ("--workers", workers, "--log-level", "debug")
    with running_server(tiny_models, *options) as server, Load(server.address, callers=8) as load:
        wait_until(lambda: load.codes["OK"] > 100)
        server.process.terminate()
        wait_until(lambda: load.codes["UNAVAILABLE"] >= 8)
        load.stop()
        assert server.process.wait(PATIENCE) == 0
        assert load.codes.keys() == {"OK", "UNAVAILABLE"}, load.problems
        log = server.log_file.read_text()
        done = [line for line in log.splitlines() if "/partedvae.v1.PartedVAEService/ExtractFeatures OK " in line]
        assert load.codes["OK"] == len(done)
        assert logging.getLevelName(logging.ERROR) not in log
        assert "Traceback" not in log
