"""Signals that end commands."""

from __future__ import annotations

import subprocess
import sys


def test_a_signal_that_is_ignored_is_still_ignored() -> None:
    """As nohup asks for."""
    script = (
        "import os, signal; from partedvae.cli.termination import exit_on_termination\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with exit_on_termination(): os.kill(os.getpid(), signal.SIGHUP); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "goes on\n")
