"""ONNX Runtime, imported in this module alone: without telemetry, and only if one of its packages is installed.

The wheels of ONNX Runtime 1.32 and later write a device id and events (names of files and graphs, the processor) to the
user's cache and upload them, unless ORT_DISABLE_TELEMETRY is set before the import.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

from partedvae.serving.errors import InstallationError

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort  # the variable must be set before

PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
)
"""Packages that install the same files, those of the last one being used."""


def require_one_package() -> None:
    """Check that one package of ONNX Runtime is installed: with two, which devices there are is a matter of chance.

    Raises:
        InstallationError: several are installed.
    """
    installed = [name for name in PACKAGES if _is_installed(name)]
    if len(installed) > 1:
        raise InstallationError(
            f"{' and '.join(installed)} are both installed, and each has overwritten files of the other: "
            f"pip uninstall {' '.join(installed)}, and then install one of them, 'partedvae[serve]' (CPU) or "
            "'partedvae[gpu]' (CUDA)"
        )


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


require_one_package()

__all__ = ["ort", "require_one_package"]
