"""Choice of the device, and process-wide settings of PyTorch for speed and reproducibility."""

from __future__ import annotations

import ctypes

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt in glibc."""
KEEP_BELOW = 1 << 30
"""Size in bytes up to which freed blocks are kept by the allocator."""


def choose_device(name: str) -> str:
    """Return "cpu" or "cuda".

    Args:
        name: "cpu", "cuda", or "auto" for CUDA where it is available.

    Raises:
        ValueError: CUDA was requested and is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        reason = "is a CPU build" if torch.version.cuda is None else "finds no usable GPU"
        raise ValueError(
            f"--device cuda: this PyTorch {torch.__version__} {reason}; use --device cpu or install a CUDA build"
        )
    return name


def prepare(seed: int) -> None:
    """Seed PyTorch and apply process-wide settings.

    Denormal numbers are flushed to zero: with sparse images they make some steps ten times slower.

    Args:
        seed: random seed of weights, noise and augmentation.
    """
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    torch.manual_seed(seed)


def _keep_freed_memory() -> None:
    """Make the allocator of glibc reuse large blocks.

    By default it returns the memory of activations to the system after every step, and the page faults of the next step
    make each ReLU four times slower. Other C libraries have no mallopt, and their allocators are not changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEEP_BELOW)
        mallopt(M_TRIM_THRESHOLD, KEEP_BELOW)
