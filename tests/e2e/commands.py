"""Runs the `partedvae` command in a process."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

from partedvae.cli.main import main


def small_networks(layers: int) -> tuple[str, ...]:
    """Return options of `train` for small networks of that many convolutions, where a test needs no good model."""
    channels = ",".join(layers * ["8"])
    settings = (f"encoder_channels={channels}", f"decoder_channels={channels}", "hidden_dim=32")
    options = [f"model.{setting}" for setting in settings] + ["supervision.warm_start_steps=20"]
    return tuple(part for option in options for part in ("--set", option))


def partedvae_here(*arguments: object) -> str:
    """Run a command in this process, which has imported PyTorch, and return its stdout; it must succeed."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def partedvae(*arguments: object) -> str:
    """Run a command and return its stdout; it must succeed."""
    command = [sys.executable, "-m", "partedvae", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
