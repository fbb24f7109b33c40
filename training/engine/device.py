"""Choice of the device, and process-wide settings of PyTorch for speed and reproducibility."""

from __future__ import annotations

from pathlib import Path

import torch

from partedvae.common.allocator import keep_freed_blocks
from partedvae.training.config.train_config import Precision

KEPT_BELOW = 1 << 30
"""Freed blocks up to this size, in bytes, are kept. By default activations are returned to the system after every step,
and the page faults of the next step make each ReLU four times slower."""
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Flags of /proc/cpuinfo of processors that multiply bfloat16 numbers."""


def choose_device(name: str) -> torch.device:
    """Return the device of a command. On a GPU, matrix products use TensorFloat-32, as its convolutions do by default.

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
    if name == "cuda":
        torch.set_float32_matmul_precision("high")
    return torch.device(name)


def choose_precision(device: str, precision: Precision, root: Path = Path("/")) -> Precision:
    """Return "32-true" or "bf16-mixed", checking that the device computes in it.

    Without instructions of its own, a processor emulates bfloat16, several times slower than 32 bits.

    Args:
        device: "cpu" or "cuda".
        precision: "auto" for bf16-mixed where the device has instructions for it.
        root: folder that contains `/proc`; another one in tests.

    Raises:
        ValueError: bf16-mixed was requested, and the device lacks the instructions.
    """
    if precision == "auto":
        return "bf16-mixed" if _has_bf16(device, root) else "32-true"
    if precision == "bf16-mixed" and not _has_bf16(device, root):
        if device == "cuda":
            raise ValueError(
                f"--precision {precision}: this GPU does not support bfloat16; omit it, or use another GPU"
            )
        raise ValueError(
            f"--precision {precision}: this processor lacks bfloat16 instructions ({' or '.join(sorted(BF16_FLAGS))} "
            "in /proc/cpuinfo), and would be slower than without; omit --precision, or train on a GPU"
        )
    return precision


def _has_bf16(device: str, root: Path) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        return bool(set((root / "proc/cpuinfo").read_text(encoding="utf-8").split()) & BF16_FLAGS)
    except OSError:
        return False


def prepare(seed: int) -> None:
    """Seed PyTorch and apply process-wide settings.

    Denormal numbers are flushed to zero: with sparse images they make some steps ten times slower.

    Args:
        seed: random seed of weights, noise and augmentation.
    """
    torch.set_flush_denormal(True)
    # Some algorithms of cuDNN add in another order in every run.
    torch.backends.cudnn.deterministic = True
    keep_freed_blocks(KEPT_BELOW, unused=KEPT_BELOW)
    torch.manual_seed(seed)
