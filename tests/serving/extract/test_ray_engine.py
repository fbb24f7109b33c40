"""Batch extraction by workers of Ray: a cluster of two, of which some are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bundles import GREY
from tests.serving.extraction import extract

pytest.importorskip("ray", reason="the extra 'ray' is not installed")
pytestmark = pytest.mark.slow

ROWS, ROWS_PER_PART = 120_000, 4_000
PATIENCE = 240.0
"""Timeout in seconds: Ray starts half a dozen processes, each of which imports much."""
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
CLUSTER = """
import logging, sys, ray
started = ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20,
                   log_to_driver=False, logging_level=logging.ERROR)
print(started.address_info["address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Run a cluster of this machine with two processors; return its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **QUIET},
    )
    with process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


@pytest.fixture
def source(tmp_path: Path, tiny_models: Path) -> tuple[Path, pa.Table]:
    """Write images; return their file, and the features that one process computes of them."""
    file = tmp_path / "images.npy"
    np.save(file, GREY.random_images(ROWS))
    assert extract(file, tmp_path / "local.parquet", *options(tiny_models)).exit_code == 0
    return file, pq.read_table(tmp_path / "local.parquet")


def options(models: Path) -> list[str]:
    return ["--model", str(models / "tiny"), "--rows-per-part", str(ROWS_PER_PART), "--include-z"]


@contextmanager
def extracting(
    source: Path, output: Path, *arguments: str, env: Mapping[str, str] = QUIET
) -> Iterator[subprocess.Popen[str]]:
    """Run the command with the engine within the block."""
    command = [sys.executable, "-m", "partedvae", "extract", str(source), "--output", str(output), "--engine", "ray"]
    with subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def unfinished_parts(folder: Path) -> dict[int, Path]:
    """Return the files that are being written, by the process that writes them."""
    found = (re.fullmatch(r"\.part-.*\.(\d+)\.partial", path.name) for path in folder.glob(".part-*.partial"))
    return {int(match[1]): folder / match[0] for match in found if match}


def kill_in_the_middle(process: subprocess.Popen[str], parts: Path, victim: int | None = None) -> int:
    """Kill a worker, or the `victim`, while a part is written and some are done; return how many are done."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        done = len(list(parts.glob("part-*")))
        for writer, file in unfinished_parts(parts).items() if done else ():
            with suppress(ProcessLookupError):  # A worker of the command that was killed, and gone with it.
                os.kill(victim or writer, signal.SIGKILL)
                if victim or file.exists():
                    return done
        time.sleep(0.001)
    raise AssertionError(f"no part was written within {PATIENCE} s")


def assert_rows(table: pa.Table, expected: pa.Table) -> None:
    """Compare tables: in batches of other sizes, ONNX Runtime rounds otherwise."""
    assert table.column_names == expected.column_names
    for name in table.column_names:
        if pa.types.is_floating(table[name].type):
            np.testing.assert_allclose(table[name].to_numpy(), expected[name].to_numpy(), rtol=0, atol=1e-6)
        else:
            assert table[name].equals(expected[name]), name


def test_without_an_address_ray_is_started_and_ends(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """Images that cannot be read are rows with the reason, also in one file, and nothing of Ray is printed."""
    output = tmp_path / "features.parquet"
    home = tmp_path / "home"
    home.mkdir()
    arguments = ("--model", str(tiny_models / "tiny"), "--rows-per-part", "4", "--strict")
    with extracting(folder, output, *arguments, env={"HOME": str(home)}) as process:
        stdout, stderr = process.communicate(timeout=PATIENCE)

    assert process.returncode == 3, stderr
    assert re.fullmatch(rf"14 images -> {re.escape(str(output))} \([\d.]+ s, \d+ images/s\)\n", stdout)
    lines = [line for line in stderr.splitlines() if not line.startswith("extract: ")]
    assert lines[0] == '2 images could not be read; the column "error" has the reasons:'
    assert len(lines) == 4
    local = tmp_path / "local.parquet"
    assert extract(folder, local, "--model", tiny_models / "tiny", "--rows-per-part", 4).exit_code == 0
    assert_rows(pq.read_table(output), pq.read_table(local))
    assert pq.read_schema(output).equals(pq.read_schema(local), check_metadata=True)
    assert list(home.iterdir()) == [], "neither a token of Ray nor anything else"


@pytest.mark.exhaustive
def test_killed_workers_and_commands_change_no_row(
    cluster: str, source: tuple[Path, pa.Table], tiny_models: Path, tmp_path: Path
) -> None:
    """The command is killed, and goes on; then a worker is killed; the rows are those of one process."""
    images, expected = source
    output = tmp_path / "features"
    arguments = (*options(tiny_models), "--ray-address", cluster)

    with extracting(images, output, *arguments) as first:
        kill_in_the_middle(first, output, victim=first.pid)
        first.communicate(timeout=PATIENCE)
    assert first.returncode == -signal.SIGKILL
    kept = len(list(output.glob("part-*")))
    assert 0 < kept < ROWS // ROWS_PER_PART

    with extracting(images, output, *arguments, "--json") as second:
        kill_in_the_middle(second, output)
        stdout, stderr = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, stderr
    assert re.search(r"^resuming: \d+ of 30 parts are done$", stderr, re.MULTILINE)
    summary = json.loads(stdout)
    assert summary["images"] == ROWS
    assert summary["parts_done_before"] >= kept
    assert_rows(pq.read_table(output), expected)
    assert unfinished_parts(output) == {}
