"""Sessions: opens an ONNX graph on a device, and checks that it is the graph that the manifest describes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from partedvae.serving.errors import BundleError, DeviceError
from partedvae.serving.onnx.buffers import BUCKETS, BucketedSession, TensorSpec, zeros
from partedvae.serving.onnx.devices import GPUS, Device, Provider, choose, providers
from partedvae.serving.onnx.external_data import external_tensor
from partedvae.serving.onnx_runtime import ort

logger = logging.getLogger(__name__)


class Graph(NamedTuple):
    """A graph to open: its bytes, not its file, which may have changed since it was verified."""

    path: Path
    """Where it is from, for errors."""
    content: bytes
    """The ONNX file."""


class Session(Protocol):
    """An open graph that maps named arrays to named arrays. Can be used from several threads."""

    @property
    def provider(self) -> str:
        """ONNX Runtime's execution provider in use, for example "CPUExecutionProvider"."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute the named outputs, [rows, …] each, from inputs [rows, …] by name."""

    def warm_up(self) -> None:
        """Run everything that is slow the first time."""


class PlainSession:
    """A session that runs batches of any size, which is fastest on the CPU."""

    def __init__(self, session: ort.InferenceSession, inputs: Mapping[str, TensorSpec]) -> None:
        """Wrap a session.

        Args:
            session: the session to run.
            inputs: type and dimensions of its inputs by name.
        """
        self.provider = str(session.get_providers()[0])
        self._session = session
        self._inputs = inputs

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch; see `Session`. ONNX Runtime's `run` releases the GIL."""
        results: list[NDArray[Any]] = self._session.run(list(outputs), dict(inputs))
        return results

    def warm_up(self) -> None:
        """Run one image, because the first run allocates."""
        self._session.run(None, {name: zeros(spec, rows=1) for name, spec in self._inputs.items()})


def open_session(
    graph: Graph, device: Device, threads: int, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> Session:
    """Open a graph, on a GPU in fixed batch sizes (see `partedvae.serving.onnx.buffers`).

    Args:
        graph: the ONNX file, as it was verified.
        device: see `OnnxModel.load`.
        threads: threads per run on the CPU.
        inputs: type and dimensions by name, according to the manifest.
        outputs: the same.

    Raises:
        BundleError: ONNX Runtime cannot load the graph, it has external data, or it differs from what the manifest
            describes.
        DeviceError: the requested device is not available.
    """
    session = open_on_device(graph, device, threads, {name: dims for name, (_, dims) in inputs.items()})
    check_graph(session, graph.path, inputs, outputs)
    if session.get_providers()[0] in [gpu.provider for gpu in GPUS.values()]:
        return BucketedSession(session, inputs, outputs)
    return PlainSession(session, inputs)


def open_on_device(
    graph: Graph, device: Device, threads: int, inputs: Mapping[str, Sequence[int]]
) -> ort.InferenceSession:
    """Open an ONNX Runtime session; see `open_session`, except that `inputs` has only the dimensions."""
    tensor = external_tensor(graph.content)
    if tensor is not None:
        raise BundleError(
            f"{graph.path} has external data (tensor {tensor!r}), which no checksum covers; save the graph with its "
            "weights inside"
        )
    available = ort.get_available_providers()
    chosen = choose(device, available)
    on_cpu = providers("cpu", inputs, BUCKETS[-1])
    if chosen == "cpu":
        return _open_on(on_cpu, graph, threads)
    gpu = GPUS[chosen]
    if gpu.provider not in available:
        raise DeviceError(
            f"device {device!r} is not available, because this ONNX Runtime has no {gpu.provider}: install "
            "partedvae[gpu] instead of partedvae[serve], or choose --device cpu"
        )
    try:
        checksum = hashlib.sha256(graph.content).hexdigest()
        session = _open_on(providers(chosen, inputs, BUCKETS[-1], checksum), graph, threads)
        used = session.get_providers()[0]
        problem = "" if used == gpu.provider else f"ONNX Runtime fell back to {used}"
    except BundleError as error:
        # Raises if the file is at fault; otherwise the device is.
        session = _open_on(on_cpu, graph, threads)
        problem = str(error.__cause__)
    if problem and device != "auto":
        raise DeviceError(
            f"device {device!r} is not available, because {gpu.provider} failed: {problem}; {gpu.remedy}, or choose "
            "--device cpu"
        )
    if problem:
        logger.warning("%s failed, using the CPU: %s; %s", gpu.provider, problem, gpu.remedy)
    return session


def session_options(threads: int) -> ort.SessionOptions:
    """Return the options of every session.

    Args:
        threads: threads per run on the CPU.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads would occupy processors that gRPC and the sessions of other models need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its own format is also recognised in bytes, but not checked for external data.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Errors arrive as exceptions; by default ONNX Runtime prints them to stderr as well.
    options.log_severity_level = 4
    return options


def _open_on(choices: list[Provider], graph: Graph, threads: int) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(graph.content, session_options(threads), providers=choices, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no common base.
        raise BundleError(
            f"{graph.path} is not a graph that ONNX Runtime can load: {error}; export the run again"
        ) from error
    # Sessions keep the bytes for `set_providers`, which nothing calls: a loaded model would need half as much again.
    session._model_bytes = None
    return session


def check_graph(
    session: ort.InferenceSession, path: Path, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> None:
    """Compare the inputs and outputs of a graph with the manifest. The order does not matter.

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
            # A dynamic dimension is a name or None; the batch must be dynamic, and others may be.
            fits = len(tensor.shape) == len(dims) + 1 and not isinstance(tensor.shape[0], int)
            fits &= all(a == b for a, b in zip(tensor.shape[1:], dims, strict=False) if isinstance(a, int))
            if tensor.type != dtype or not fits:
                raise BundleError(
                    f"{path}: the {kind} {name!r} is {tensor.type} {tensor.shape}, the manifest needs "
                    f"{dtype} {['batch', *dims]}; export the run again"
                )
