"""Extractions whose process, or server, is killed at random points: in the end all rows are there, once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bundles import GREY
from tests.processes import running_server
from tests.serving.extraction import extract

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")]

KILLS = 10
"""Of a folder, and again of a single file."""
ROWS = 600
OPTIONS = ("--rows-per-part", 16, "--batch-size", 8)
"""Parts of two batches each."""

# A process that has imported what the command needs forks for each run, which takes milliseconds instead of a second.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        f"partedvae.serving.{name}"
        for name in ("extract.command", "extract.engine", "extract.output.join", "extract.sources.open")
    ]
    + ["partedvae.serving.repository.loading", "tests.serving.extraction"]
)


def _run(images: Path, output: Path, options: list[object], code: Path) -> None:
    result = extract(images, output, *options)
    code.write_text(f"{result.exit_code}\n{result.output}")


def started(images: Path, output: Path, options: list[object], code: Path) -> ForkServerProcess:
    code.unlink(missing_ok=True)
    process = _processes.Process(target=_run, args=(images, output, options, code))
    process.start()
    return process


def rows_of(output: Path) -> pa.Table:
    table = pq.read_table(output)
    return table.sort_by("index") if output.is_dir() else table


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("features.parquet", 4),
        pytest.param("features.parquet", KILLS, marks=pytest.mark.exhaustive),
        pytest.param("features", KILLS, marks=pytest.mark.exhaustive),
    ],
)
def test_killed_at_random(name: str, kills: int, tiny_models: Path, tmp_path: Path) -> None:
    """Each killed run is followed by the same command; a run that ends first is compared, and begins anew."""
    images = tmp_path / "images.npy"
    np.save(images, GREY.random_images(ROWS))
    output, code = tmp_path / name, tmp_path / "code"
    options = ["--model", tiny_models / "tiny", *OPTIONS]
    for _ in range(2):  # The second one has the duration of those that follow: the first imports.
        _delete(output)
        began = time.monotonic()
        started(images, output, options, code).join()
        seconds = time.monotonic() - began
    assert code.read_text().startswith("0\n600 images -> "), code.read_text()
    expected = rows_of(output)
    assert expected["index"].to_pylist() == list(range(ROWS))

    random, killed = Random(13), 0
    _delete(output)
    while killed < kills:
        process = started(images, output, options, code)
        process.join(random.uniform(0, 0.8 * seconds))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            killed += 1
            continue
        assert code.read_text().startswith(("0\n", "0\nresuming: ")), code.read_text()
        assert rows_of(output).equals(expected)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        _delete(output)
    process = started(images, output, options, code)
    process.join()
    assert code.read_text().startswith("0\n")
    assert rows_of(output).equals(expected)
    assert not [path for path in [*tmp_path.iterdir(), *_inside(output)] if path.name.startswith(".")]


def _inside(output: Path) -> list[Path]:
    return list(output.iterdir()) if output.is_dir() else []


def _delete(output: Path) -> None:
    if output.is_dir():
        shutil.rmtree(output)
    else:
        output.unlink(missing_ok=True)


def test_the_server_is_killed(tiny_models: Path, tmp_path: Path) -> None:
    """The run ends with what happened and keeps its parts; the same command goes on with another server."""
    images = tmp_path / "images.npy"
    np.save(images, GREY.random_images(4 * ROWS))
    whole, output, code = tmp_path / "whole.parquet", tmp_path / "features", tmp_path / "code"
    assert extract(images, whole, "--model", tiny_models / "tiny").exit_code == 0

    random, done = Random(13), 0
    for _ in range(2):
        with running_server(tiny_models, must_end_well=False) as server:
            process = started(images, output, ["--server", server.address, "--timeout", 4, *OPTIONS], code)
            target = done + random.randint(3, 15)
            while len(_parts(output)) < target and process.is_alive():
                time.sleep(0.001)
            os.kill(server.process.pid, signal.SIGKILL)
            process.join()
        done = len(_parts(output))
        assert code.read_text().startswith("1\n"), code.read_text()
        assert f"{done} of 150 parts of {output} kept; run the same command again" in code.read_text()
    with running_server(tiny_models) as server:
        result = extract(images, output, "--server", server.address, *OPTIONS)
    assert result.exit_code == 0
    assert result.stderr == f"resuming: {done} of 150 parts are done\n"
    ours, theirs = rows_of(output), rows_of(whole)
    assert ours["index"].equals(theirs["index"])
    assert ours["digit"].equals(theirs["digit"])
    np.testing.assert_allclose(ours["digit_u0"], theirs["digit_u0"], rtol=0, atol=1e-6)


def _parts(output: Path) -> list[Path]:
    return list(output.glob("part-*"))
