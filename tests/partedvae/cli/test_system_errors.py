"""Errors of the machine, and standard streams that are closed or cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from partedvae.cli.system_errors import system_errors_reported
from tests.bundles import TinyModel


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script whose arguments are the `partedvae` command and its arguments."""
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "partedvae", *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), r"^not enough memory: end other programs, raise the limit \(ulimit -v"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nstack"),
            r"^not enough memory \(DefaultCPUAllocator: .* 9 bytes\.\): end other programs",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 9 GiB."),
            r"^not enough memory on the GPU \(CUDA out of memory.*9 GiB.\): end other programs on it, .* --device cpu$",
        ),
        (RuntimeError("can't start new thread"), r"^can't start new thread: raise the limit of processes \(ulimit -u"),
        (PermissionError(13, "Permission denied", "/bin/python"), "^/bin/python: Permission denied$"),
    ],
)
def test_an_error_of_the_machine_is_one_line_with_the_remedy(error: Exception, message: str) -> None:
    with pytest.raises(click.ClickException, match=message) as caught, system_errors_reported():
        raise error
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("error", [RuntimeError("a bug"), BrokenPipeError(), ValueError("a bug")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, system_errors_reported():
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "arguments", [pytest.param(["--help"], marks=pytest.mark.exhaustive), ["--version"], ["data", "--help"]]
)
def test_a_full_disk_behind_stdout_is_an_error_without_a_traceback(tmp_path: Path, arguments: list[str]) -> None:
    result = run('"$@" >/dev/full', *arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "Error: No space left on device\n" in result.stderr
    assert "Traceback" not in result.stderr


def test_commands_run_without_standard_streams(tmp_path: Path) -> None:
    """No file gets the descriptor of a stream, and progress has a place to go."""
    from PIL import Image

    model = TinyModel()
    model.write(tmp_path / "models" / "tiny")
    (tmp_path / "images").mkdir()
    Image.new("L", (model.width, model.height), 7).save(tmp_path / "images" / "one.png")
    script = '"$@" <&- >&- 2>&-'
    result = run(script, "extract", "images", "--model", "models/tiny", "--output", "x.npz", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "x.npz").read_bytes().startswith(b"PK")


@pytest.mark.slow
def test_a_server_serves_where_its_line_cannot_be_written(tmp_path: Path) -> None:
    """The reader of its stdout may have ended, and the disk of its log may be full."""
    TinyModel().write(tmp_path / "models" / "tiny")
    arguments = ["-m", "partedvae", "serve", "models", "--address", "127.0.0.1:0"]
    with subprocess.Popen(
        ["sh", "-c", 'exec "$@" >/dev/full', "sh", sys.executable, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            line = next(line for line in process.stderr if "serving on" in line)
            address = line.partition("serving on ")[2].partition(",")[0]
            health = run('"$@"', "health", "--server", address, cwd=tmp_path)
            assert (health.returncode, health.stdout) == (0, "SERVING\n")
        finally:
            process.terminate()
        assert "Traceback" not in process.stderr.read()
        assert process.wait() == 0
