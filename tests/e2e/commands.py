"""Runs the `partedvae` command in a process."""

from __future__ import annotations

import subprocess
import sys


def partedvae(*arguments: object) -> str:
    """Run a command and return its stdout; it must succeed."""
    command = [sys.executable, "-m", "partedvae", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
