"""Opens a graph on a device, and checks that it is the graph which the manifest describes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import onnxruntime as ort
from numpy.typing import NDArray

from partedvae.serving.errors import BundleError, DeviceError
from partedvae.serving.onnx.buffers import BUCKETS, BucketedGraph, TensorSpec, zeros
from partedvae.serving.onnx.devices import GPUS, Device, Provider, choose, providers

logger = logging.getLogger(__name__)


class Graph(Protocol):
    """An opened graph: named arrays in, named arrays out. Safe to use from many threads at once."""

    @property
    def provider(self) -> str:
        """ONNX Runtime's execution provider in use, "CPUExecutionProvider"."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute the outputs named, [rows, …] each, of inputs [rows, …] by name."""

    def warm_up(self) -> None:
        """Run once what is slow the first time."""


class PlainGraph:
    """A graph that takes batches of any size, as the CPU does best."""

    def __init__(self, session: ort.InferenceSession, inputs: Mapping[str, TensorSpec]) -> None:
        """Take a session and its inputs."""
        self.provider = str(session.get_providers()[0])
        self._session = session
        self._inputs = inputs

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch; see `Graph`. ONNX Runtime's `run` releases the GIL."""
        results: list[NDArray[Any]] = self._session.run(list(outputs), dict(inputs))
        return results

    def warm_up(self) -> None:
        """Run one image: the first run allocates."""
        self._session.run(None, {name: zeros(spec, rows=1) for name, spec in self._inputs.items()})


def open_graph(
    path: Path, device: Device, threads: int, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> Graph:
    """Open a graph, on a GPU in fixed batch sizes (see `partedvae.serving.onnx.buffers`).

    Args:
        path: the ONNX file.
        device: "cpu"; "cuda" or "tensorrt", which fail where they are not to be had; or "auto", which takes CUDA or
            else the CPU.
        threads: threads of one run on the CPU.
        inputs: by name, what the manifest promises.
        outputs: the same.

    Raises:
        BundleError: the file is no graph that ONNX Runtime can run, or another one than the manifest describes.
        DeviceError: a device was asked for that is not to be had.
    """
    session = open_session(path, device, threads, {name: dims for name, (_, dims) in inputs.items()})
    check_graph(session, path, inputs, outputs)
    if session.get_providers()[0] in [gpu.provider for gpu in GPUS.values()]:
        return BucketedGraph(session, inputs, outputs)
    return PlainGraph(session, inputs)


def open_session(path: Path, device: Device, threads: int, inputs: Mapping[str, Sequence[int]]) -> ort.InferenceSession:
    """Open a session; arguments and errors are those of `open_graph`, `inputs` has the dimensions alone."""
    available = ort.get_available_providers()
    chosen = choose(device, available)
    if chosen == "cpu":
        return _open_on(providers("cpu", inputs, BUCKETS[-1]), path, threads)
    gpu = GPUS[chosen]
    if gpu.provider not in available:
        raise DeviceError(
            f"the device {device!r} was asked for, but this ONNX Runtime has no {gpu.provider}: install "
            "partedvae[gpu] in place of partedvae[serve], or choose --device cpu"
        )
    try:
        session = _open_on(providers(chosen, inputs, BUCKETS[-1]), path, threads)
        taken = session.get_providers()[0]
        problem = "" if taken == gpu.provider else f"ONNX Runtime fell back to {taken}"
    except BundleError as error:
        # Raises for a bad file; when it works, the device is to blame.
        session = _open_on(providers("cpu", inputs, BUCKETS[-1]), path, threads)
        problem = str(error.__cause__)
    if problem and device != "auto":
        raise DeviceError(
            f"the device {device!r} was asked for, but {gpu.provider} could not be used: {problem}; {gpu.remedy}, or "
            "choose --device cpu"
        )
    if problem:
        logger.warning("%s could not be used, taking the CPU: %s; %s", gpu.provider, problem, gpu.remedy)
    return session


def _open_on(choices: list[Provider], path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads would take the processors from gRPC and from the sessions of other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What goes wrong arrives as an exception; without this ONNX Runtime prints it to stderr as well.
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(path, options, providers=choices, enable_fallback=0)
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
