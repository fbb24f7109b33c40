"""Running the `partedvae` command as a user does."""

from __future__ import annotations

import subprocess
import sys


def partedvae(*arguments: object) -> str:
    """Run a command that must succeed and return its stdout."""
    command = [sys.executable, "-m", "partedvae", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
