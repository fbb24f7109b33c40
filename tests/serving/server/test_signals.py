"""Signals of a server, from its start to its end: SIGHUP and the like never end it, SIGTERM and SIGINT always do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from partedvae.v1.service_pb2 import ClassifyRequest
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.bundles import GREY
from tests.processes import PATIENCE, ServerProcess, running_server, wait_until, workers_of
from tests.scraping import METRICS, active_calls
from tests.serving.faults.support import images_message
from tests.serving.server.test_supervisor import is_alive

pytestmark = pytest.mark.slow

HARMLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE)
WORKERS = pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.exhaustive), "2"])


@contextmanager
def starting(models_dir: Path, workers: str, log_file: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a server within the block, from the moment at which it handles signals."""
    # The command's module is imported, and the program waits in front of it.
    program = (
        "import sys; sys.argv[:] = ['partedvae', 'serve', *sys.argv[1:]]; import partedvae.cli;"
        "print('handles signals', flush=True); from partedvae.cli.main import main; main()"
    )
    arguments = [str(models_dir), "--address", "127.0.0.1:0", "--workers", workers, "--poll-seconds", "0"]
    with (
        log_file.open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "handles signals\n"
            yield process
        finally:
            process.kill()


@WORKERS
def test_harmless_signals_while_starting(tiny_models: Path, tmp_path: Path, workers: str) -> None:
    """A server that gets SIGHUP and the like all the time, while it starts and stops, serves and ends well."""
    with starting(tiny_models, workers, tmp_path / "log") as process:
        assert process.stdout is not None
        sent = 0

        def log_has(text: str) -> bool:
            nonlocal sent
            process.send_signal(HARMLESS[sent % len(HARMLESS)])
            sent += 1
            assert process.poll() is None, (tmp_path / "log").read_text()
            return text in (tmp_path / "log").read_text()

        wait_until(lambda: log_has("loaded tiny version 1"))
        assert process.stdout.readline().startswith("serving on ")
        process.terminate()
        while process.poll() is None:
            process.send_signal(HARMLESS[sent % len(HARMLESS)])
            sent += 1
            time.sleep(0.0001)
        assert process.returncode == 0
    assert sent > 20
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.exhaustive
def test_harmless_signals_to_workers(tiny_models: Path) -> None:
    """Workers that get them, as from a service manager that signals all processes, go on."""
    with running_server(tiny_models, "--workers", "2") as server:
        before = workers_of(server)
        for number in (*HARMLESS, *HARMLESS):
            for pid in before:
                subprocess.run(["kill", f"-{int(number)}", str(pid)], check=True)
        server.process.send_signal(signal.SIGHUP)
        assert workers_of(server) == before
        assert all(map(is_alive, before))


@pytest.mark.exhaustive
@WORKERS
def test_hangup_while_loading_is_remembered(tmp_path: Path, workers: str) -> None:
    """A version that appears while the others are loaded is loaded after SIGHUP, although nothing else looks for it."""
    models = tmp_path / "models"
    GREY.write(models / "tiny")
    GREY.write(models / "other")
    log = tmp_path / "log"
    with starting(models, workers, log) as process:
        assert process.stdout is not None
        wait_until(lambda: log.read_text().count("loaded ") >= int(workers))
        GREY.write(models / "tiny")
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline().startswith("serving on ")
        wait_until(lambda: log.read_text().count("loaded tiny version 2") == int(workers))
        process.terminate()
        assert process.wait(PATIENCE) == 0


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("loaded", [False, True], ids=["at once", "loading"])
def test_stop_while_starting(
    tiny_models: Path, tmp_path: Path, workers: str, number: signal.Signals, loaded: bool
) -> None:
    """SIGTERM and SIGINT end a server that starts, with their exit code or 0, and no process stays."""
    log = tmp_path / "log"
    with starting(tiny_models, workers, log) as process:
        if loaded:
            wait_until(lambda: "loaded tiny version 1" in log.read_text())
        server = ServerProcess(process=process, address="", log_file=log)
        children = workers_of(server)
        process.send_signal(number)
        assert process.wait(PATIENCE) in (0, -number, 128 + number)
    wait_until(lambda: not any(map(is_alive, children)))
    assert log.read_text().count("Traceback") == 0


@pytest.mark.exhaustive
@WORKERS
def test_many_hangups(tiny_models: Path, workers: str) -> None:
    """A flood of SIGHUP changes nothing, and does not hide the SIGTERM within it; the log does not grow."""
    with running_server(tiny_models, "--workers", workers) as server:
        before = workers_of(server)
        for pid in (server.process.pid, *before):
            for _ in range(20_000):
                os.kill(pid, signal.SIGHUP)
        with grpc.insecure_channel(server.address) as channel:
            PartedVAEServiceStub(channel).Classify(ClassifyRequest(images=images_message(1)))
        assert workers_of(server) == before
        for sent in range(20_000):
            if sent == 10_000:
                server.process.terminate()
            server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(PATIENCE) == 0
        assert len(server.log_file.read_text().splitlines()) <= 3 * int(workers)


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive), signal.SIGINT])
def test_second_signal_while_draining(tiny_models: Path, number: signal.Signals) -> None:
    """A server that waits for an active call ignores SIGHUP, and is ended by a second signal at once."""
    options = ("--max-queue-delay-ms", "60000", "--grace-seconds", "60", *METRICS)
    with (
        running_server(tiny_models, *options, must_end_well=False) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        call = PartedVAEServiceStub(channel).Classify.future(ClassifyRequest(images=images_message(1)))
        wait_until(lambda: active_calls(server) == 1)
        server.process.send_signal(number)
        wait_until(lambda: "stopping: waiting" in server.log_file.read_text())
        server.process.send_signal(signal.SIGHUP)
        assert active_calls(server) == 1
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE) == -number
        assert "Traceback" not in server.log_file.read_text()
        assert call.code() is grpc.StatusCode.UNAVAILABLE
