"""A virtual environment for each peer, made from package names: their requirements do not go together."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.peers.registry import Peer
from benchmarks.serving.load import BenchmarkError


def ensure(peer: Peer, folder: Path, python: str) -> Path:
    """Return the folder of a peer's programs, after installing it the first time.

    Args:
        peer: which.
        folder: where environments are kept.
        python: that makes new ones.

    Raises:
        BenchmarkError: it cannot be installed.
    """
    environment = folder.resolve() / peer.package
    programs = environment / "bin"
    done = environment / "installed"
    if not done.exists():
        _run([python, "-m", "venv", "--clear", str(environment)])
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, peer.package, *peer.packages])
        done.touch()
    return programs


def version(peer: Peer, programs: Path) -> str:
    """Return a peer's version."""
    code = "import sys, json, importlib.metadata as m; print(json.dumps(m.version(sys.argv[1])))"
    return str(json.loads(_run([str(programs / "python"), "-c", code, peer.package])))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
