"""Devices: ONNX Runtime's execution providers, their options, and remedies for missing ones."""

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
"""Name and options of an execution provider, as `InferenceSession` expects them."""


class Gpu(NamedTuple):
    """A device other than the CPU."""

    provider: str
    """Name of its execution provider."""
    remedy: str
    """What to check if it cannot be used."""


GPUS: Mapping[Device, Gpu] = {
    "cuda": Gpu(CUDA, "check the driver (nvidia-smi) and that CUDA and cuDNN are installed"),
    "tensorrt": Gpu(
        TENSORRT, "check the driver (nvidia-smi) and that TensorRT's libraries (pip install tensorrt) can be loaded"
    ),
}


def choose(device: Device, available: Sequence[str]) -> Device:
    """Return the device to try: `auto` is CUDA if ONNX Runtime has it, and the CPU otherwise.

    TensorRT must be requested explicitly, because it spends minutes on building an engine when it first loads a model.
    """
    if device == "auto":
        return "cuda" if CUDA in available else "cpu"
    return device


def providers(device: Device, inputs: Mapping[str, Sequence[int]], max_rows: int, checksum: str = "") -> list[Provider]:
    """Return the execution providers of a device in order of preference; the CPU is last, for unsupported operators.

    Args:
        device: any but "auto"; see `choose`.
        inputs: dimensions after the batch of each input of the graph.
        max_rows: size of the largest batch.
        checksum: SHA-256 of the graph, which TensorRT's cached engines are named by.
    """
    cpu: Provider = (CPU, {})
    if device == "cpu":
        return [cpu]
    # The exhaustive search would time every algorithm for each batch size. TF32 would change the third digit of
    # features, compared with the CPU, and one feature file may be computed on both.
    cuda: Provider = (CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"})
    if device == "cuda":
        return [cuda, cpu]
    options = {
        "trt_engine_cache_enable": True,  # Otherwise each start would build the engines again.
        "trt_engine_cache_path": str(_cache_folder() / "partedvae" / "tensorrt"),
        # ONNX Runtime names engines by the structure of the graph: those of two versions with the same layers, and so
        # the weights in them, would be taken for each other.
        "trt_engine_cache_prefix": f"partedvae_{checksum}",
        # One engine for all batch sizes; otherwise each bucket would get its own.
        "trt_profile_min_shapes": _profile(inputs, 1),
        "trt_profile_opt_shapes": _profile(inputs, max_rows),
        "trt_profile_max_shapes": _profile(inputs, max_rows),
    }
    return [(TENSORRT, options), cuda, cpu]


def memory_of(provider: str) -> str:
    """Return ONNX Runtime's name of the memory that holds a provider's tensors: "cpu" or "cuda"."""
    return "cpu" if provider == CPU else "cuda"


def _profile(inputs: Mapping[str, Sequence[int]], rows: int) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, (rows, *dims)))}" for name, dims in inputs.items())


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
