"""An export that is terminated leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from partedvae.cli.main import main
from partedvae.export import exporter
def terminated(*arguments):
    os.kill(os.getpid(), {number})
    for _ in range(10**7):  # the signal arrives between two of these
        pass
exporter.write_decoder = terminated
main(prog_name="partedvae")
"""
"""The `partedvae` command, which gets a signal when the first graph is written."""


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_export_leaves_nothing(
    small_run: Path, data_dir: Path, tmp_path: Path, number: signal.Signals
) -> None:
    model = tmp_path / "models" / "mnist"
    program = [sys.executable, "-c", PROGRAM.format(number=int(number)), "export", str(small_run), str(model)]
    done = subprocess.run([*program, "--data", str(data_dir)], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 128 + number, done.stderr
    assert "Traceback" not in done.stderr
    assert list(model.iterdir()) == []
