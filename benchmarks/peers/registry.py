"""The peers: packages to install, command to start, and request to send."""

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

# The bound that MLServer, KServe and Triton's client require; pip does not apply it to installed packages by itself.
PROTOBUF = "protobuf<7"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A model server to compare with."""

    name: str
    package: str
    """Distribution on the package index; its version is shown in the table."""
    packages: tuple[str, ...] = ()
    """Further requirements."""
    command: Callable[[Settings], tuple[str, ...]]
    """Command line; the program is relative to the environment's `bin` folder."""
    environment: Callable[[Settings], Mapping[str, str]] = field(default=lambda _: {})
    """Further environment variables."""
    target: Callable[[str, bytes, tuple[int, ...], Settings], Target]
    """Sends one request with pixels of a shape to an address, and returns it as the target of a load.

    Raises:
        grpc.RpcError: the gRPC request failed.
        OSError: the HTTP request failed.
    """


def infer_request(model: str, pixels: bytes, shape: tuple[int, ...], outputs: tuple[str, ...]) -> bytes:
    """Return a serialized ModelInferRequest with raw contents, as tritonclient sends it."""
    request = oip.ModelInferRequest(model_name=model, raw_input_contents=[pixels])
    request.inputs.add(name=INPUT, datatype="UINT8", shape=shape)
    for name in outputs:
        request.outputs.add(name=name)
    return request.SerializeToString()


def oip_target(address: str, pixels: bytes, shape: tuple[int, ...], settings: Settings) -> Target:
    """Return the target of a server of the Open Inference Protocol."""
    return grpc_target(address, MODEL_INFER, infer_request(MODEL, pixels, shape, tuple(settings.outputs)), shape[0])


def mosec_target(address: str, pixels: bytes, shape: tuple[int, ...], settings: Settings) -> Target:
    """Return the target of mosec's server: over HTTP, pixels in and float32 out."""
    path = "/inference"
    with urlopen(f"http://{address}{path}", data=pixels, timeout=60) as response:
        length = len(response.read())
    return Target(address=address, path=path, message=pixels, response_bytes=length, images=shape[0], grpc=False)


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
        # Its worker processes call get_event_loop() without a running loop, which newer versions of uvloop refuse.
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
