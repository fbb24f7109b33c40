"""The machine and the software versions of a measurement."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

from partedvae.common.cpus import available_cpus

PACKAGES = ("partedvae", "onnxruntime", "grpcio", "protobuf", "numpy")


def machine() -> dict[str, str | int]:
    """Return processor, operating system and package versions."""
    return {
        "processor": _processor(),
        "cpus": available_cpus(),
        "system": platform.platform(terse=True),
        "python": sys.version.split()[0],
        **{package: version(package) for package in PACKAGES},
    }


def describe(facts: dict[str, str | int]) -> str:
    """Return these facts as a sentence."""
    versions = ", ".join(f"{name} {facts[name]}" for name in ("python", *PACKAGES))
    return f"Measured on {facts['cpus']} processors ({facts['processor']}), {facts['system']}; {versions}."


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()
