"""Choosing the device, and the settings that make PyTorch fast and repeatable on it."""

from __future__ import annotations

import ctypes

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's names for mallopt's parameters."""
KEEP_BELOW = 1 << 30
"""Bytes that the allocator keeps for the next step."""


def choose_device(name: str) -> str:
    """Return "cpu" or "cuda" for "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        ValueError: "cuda" where PyTorch has none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        built = "is a CPU build" if torch.version.cuda is None else "finds no usable GPU"
        raise ValueError(
            f"--device cuda: this PyTorch {torch.__version__} {built}; use --device cpu or install a CUDA build"
        )
    return name


def prepare(seed: int) -> None:
    """Seed all random numbers, keep memory, flush denormals (or sparse images make some steps ten times slower)."""
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    torch.manual_seed(seed)


def _keep_freed_memory() -> None:
    """Ask glibc's allocator to reuse large blocks.

    By default it returns the activations to the system after every step, and the page faults of getting them back make
    each ReLU four times slower. Other C libraries have no mallopt; there is nothing to do there.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEEP_BELOW)
        mallopt(M_TRIM_THRESHOLD, KEEP_BELOW)
