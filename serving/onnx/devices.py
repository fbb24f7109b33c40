"""Where models run: ONNX Runtime's execution providers, how each is set up, and what to do when one is missing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

Provider = tuple[str, dict[str, Any]]
"""An execution provider and its options, as ONNX Runtime takes them."""


class Gpu(NamedTuple):
    """A device other than the CPU."""

    provider: str
    """Its execution provider."""
    remedy: str
    """What to look at when it cannot be used."""


GPUS: Mapping[Device, Gpu] = {
    "cuda": Gpu(CUDA, "check the driver (nvidia-smi) and that CUDA and cuDNN are installed"),
    "tensorrt": Gpu(
        TENSORRT, "check the driver (nvidia-smi) and that TensorRT's libraries (pip install tensorrt) can be loaded"
    ),
}


def choose(device: Device, available: Sequence[str]) -> Device:
    """Return the device to try: `auto` is CUDA where ONNX Runtime has it, else the CPU.

    Never TensorRT, which builds an engine for minutes when it first sees a model: who wants that asks for it.
    """
    if device == "auto":
        return "cuda" if CUDA in available else "cpu"
    return device


def providers(device: Device, inputs: Mapping[str, Sequence[int]], max_rows: int) -> list[Provider]:
    """Return the execution providers of a device in their order of preference, the CPU last for what others lack.

    Args:
        device: not "auto", see `choose`.
        inputs: dimensions after the batch of each input of the graph.
        max_rows: rows of the largest batch.
    """
    cpu: Provider = (CPU, {})
    if device == "cpu":
        return [cpu]
    # The exhaustive search would time every algorithm again for each batch size; TF32 would make features differ from
    # those of the CPU in the third digit, and one feature file may be made by both.
    cuda: Provider = (CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"})
    if device == "cuda":
        return [cuda, cpu]
    options = {
        "trt_engine_cache_enable": True,  # Or each start would build the engines again.
        "trt_engine_cache_path": str(_cache_folder() / "partedvae" / "tensorrt"),
        # One engine for all batch sizes, or each bucket would get its own.
        "trt_profile_min_shapes": _profile(inputs, 1),
        "trt_profile_opt_shapes": _profile(inputs, max_rows),
        "trt_profile_max_shapes": _profile(inputs, max_rows),
    }
    return [(TENSORRT, options), cuda, cpu]


def memory_of(provider: str) -> str:
    """Return where the tensors of a provider live, in ONNX Runtime's words: "cpu" or "cuda"."""
    return "cpu" if provider == CPU else "cuda"


def _profile(inputs: Mapping[str, Sequence[int]], rows: int) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, (rows, *dims)))}" for name, dims in inputs.items())


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
