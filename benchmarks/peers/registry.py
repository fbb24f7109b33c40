"""The peers: what each is installed from, how it is started, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from benchmarks.peers.servers.common import INPUT, MODEL, Settings
from benchmarks.serving.load import Target
from benchmarks.serving.requests import grpc_target
from partedvae.oip import inference_pb2 as oip

HERE = Path(__file__).parent / "servers"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"

# What MLServer, KServe and Triton's client say of protobuf; it is told again because pip does not look back.
PROTOBUF = "protobuf<7"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another server."""

    name: str
    package: str
    """On the package index; its version goes into the table."""
    packages: tuple[str, ...] = ()
    """Beside it."""
    command: Callable[[Settings], tuple[str, ...]]
    """Arguments after the environment's `bin/`."""
    environment: Callable[[Settings], Mapping[str, str]] = field(default=lambda _: {})
    """More variables."""
    target: Callable[[str, bytes, tuple[int, ...], Settings], Target]
    """From the address, pixels and their shape, after asking once.

    Raises:
        grpc.RpcError: the request failed.
        OSError: it failed, and was none of gRPC.
    """


def infer_request(model: str, pixels: bytes, shape: tuple[int, ...], outputs: tuple[str, ...]) -> bytes:
    """Return a request of the Open Inference Protocol, with raw contents as tritonclient sends them."""
    request = oip.ModelInferRequest(model_name=model, raw_input_contents=[pixels])
    request.inputs.add(name=INPUT, datatype="UINT8", shape=shape)
    for name in outputs:
        request.outputs.add(name=name)
    return request.SerializeToString()


def oip_target(address: str, pixels: bytes, shape: tuple[int, ...], settings: Settings) -> Target:
    """Ask by the Open Inference Protocol."""
    return grpc_target(address, MODEL_INFER, infer_request(MODEL, pixels, shape, tuple(settings.outputs)), shape[0])


def mosec_target(address: str, pixels: bytes, shape: tuple[int, ...], settings: Settings) -> Target:
    """Ask by HTTP, pixels in and float32 out."""
    path = "/inference"
    with urlopen(f"http://{address}{path}", data=pixels, timeout=60) as answer:
        length = len(answer.read())
    return Target(address=address, path=path, message=pixels, answer_bytes=length, images=shape[0], grpc=False)


PEERS = (
    Peer(
        name="mosec (HTTP)",
        package="mosec",
        packages=("numpy", "onnxruntime"),
        command=lambda settings: ("python", str(HERE / "mosec_server.py"), "--port", str(settings.port)),
        target=mosec_target,
    ),
    Peer(
        name="KServe SDK",
        package="kserve",
        packages=("onnxruntime", PROTOBUF),
        command=lambda settings: ("python", str(HERE / "kserve_server.py")),
        target=oip_target,
    ),
    Peer(
        name="MLServer",
        package="mlserver",
        # Its worker processes ask for an event loop that there is not, which newer uvloops refuse.
        packages=("onnxruntime", "uvloop<0.22", PROTOBUF),
        command=lambda settings: ("mlserver", "start", str(HERE / "mlserver")),
        environment=lambda settings: {
            "MLSERVER_GRPC_PORT": str(settings.port),
            "MLSERVER_HTTP_PORT": str(settings.other_ports[0]),
            "MLSERVER_METRICS_PORT": str(settings.other_ports[1]),
            "MLSERVER_PARALLEL_WORKERS": str(settings.cpus),
        },
        target=oip_target,
    ),
    Peer(
        name="pytriton",
        package="nvidia-pytriton",
        packages=("onnxruntime", PROTOBUF),
        command=lambda settings: ("python", str(HERE / "pytriton_server.py")),
        target=oip_target,
    ),
)
