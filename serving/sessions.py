"""ONNX Runtime sessions: open a graph on a device, and check that it is the graph which the manifest describes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from serving.errors import BundleError, DeviceError

logger = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

TensorSpec = tuple[str, Sequence[int]]
"""Element type as ONNX Runtime names it ("tensor(float)"), and the dimensions after the batch."""


def open_session(path: Path, device: Device, threads: int) -> ort.InferenceSession:
    """Open a graph.

    Args:
        path: the ONNX file.
        device: "cpu"; "cuda", which fails where CUDA is not to be had; or "auto", which then takes the CPU.
        threads: threads of one run on the CPU.

    Raises:
        BundleError: the file is no graph that ONNX Runtime can run.
        DeviceError: CUDA was asked for and is not to be had.
    """
    if device == "cpu" or (device == "auto" and CUDA not in ort.get_available_providers()):
        return _open_on([CPU], path, threads)
    if CUDA not in ort.get_available_providers():
        raise DeviceError(
            "the device 'cuda' was asked for, but this ONNX Runtime has no CUDAExecutionProvider: install "
            "partedvae[gpu] in place of partedvae[serve], or choose --device cpu"
        )
    try:
        session = _open_on([CUDA, CPU], path, threads)
        problem = "" if session.get_providers()[0] == CUDA else "ONNX Runtime fell back to the CPU"
    except BundleError as error:
        session = _open_on([CPU], path, threads)  # Raises for a bad file; when it works, the device is to blame.
        problem = str(error.__cause__)
    if problem and device == "cuda":
        raise DeviceError(
            f"the device 'cuda' was asked for, but CUDA could not be used: {problem}; check the driver (nvidia-smi) "
            "and that CUDA and cuDNN are installed, or choose --device cpu"
        )
    if problem:
        logger.warning("CUDA could not be used, taking the CPU: %s", problem)
    return session


def _open_on(providers: list[str], path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads would take the processors from gRPC and from the sessions of other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What goes wrong arrives as an exception; without this ONNX Runtime prints it to stderr as well.
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no common base.
        raise BundleError(f"{path} is not a graph that ONNX Runtime can load: {error}; export the run again") from error


def check_graph(
    session: ort.InferenceSession, path: Path, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> None:
    """Compare a graph's inputs and outputs with what the manifest promises. The order does not matter.

    Raises:
        BundleError: a name, an element type or a dimension differs, or the batch is fixed.
    """
    for kind, found, expected in (
        ("input", session.get_inputs(), inputs),
        ("output", session.get_outputs(), outputs),
    ):
        by_name = {tensor.name: tensor for tensor in found}
        if by_name.keys() != expected.keys():
            raise BundleError(
                f"{path} has the {kind}s {sorted(by_name)}, the manifest needs {sorted(expected)}; export the run again"
            )
        for name, (dtype, dims) in expected.items():
            tensor = by_name[name]
            # A dimension that the graph does not know is a name or None; only the batch must be such.
            fits = len(tensor.shape) == len(dims) + 1 and not isinstance(tensor.shape[0], int)
            fits &= all(a == b for a, b in zip(tensor.shape[1:], dims, strict=False) if isinstance(a, int))
            if tensor.type != dtype or not fits:
                raise BundleError(
                    f"{path}: the {kind} {name!r} is {tensor.type} {tensor.shape}, the manifest needs "
                    f"{dtype} {['batch', *dims]}; export the run again"
                )
