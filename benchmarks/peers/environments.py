"""A virtual environment for each peer, since their requirements conflict."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.peers.registry import Peer
from benchmarks.serving.load import BenchmarkError


def ensure(peer: Peer, folder: Path, python: str) -> Path:
    """Install a peer on first use, and return the `bin` folder of its environment.

    Args:
        peer: the server to install.
        folder: folder that holds the environments.
        python: interpreter that creates new environments.

    Raises:
        BenchmarkError: the installation failed.
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
    """Return the installed version of a peer."""
    code = "import sys, json, importlib.metadata as m; print(json.dumps(m.version(sys.argv[1])))"
    return str(json.loads(_run([str(programs / "python"), "-c", code, peer.package])))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
