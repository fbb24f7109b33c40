"""Starts `partedvae serve` of this checkout or of another one, with the options of an attack."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import yaml

from benchmarks.attack.attack import CHANNEL_OPTIONS, Options
from benchmarks.attack.target import Target
from benchmarks.attack.usage import kill_tree
from benchmarks.serving.load import BenchmarkError
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub

ROOT = Path(__file__).parents[2]
MANIFEST = "deploy/kubernetes.yaml"
MODEL, VERSIONS = "attacked", (1, 2, 3, 4)
"""Name and versions of the served model: one more than a server keeps loaded."""
MEMORY_MB = {"default": 512, "kubernetes": 256, "tokens": 256}
"""Budget of each process where the options state none."""
DEFAULT_MESSAGE_MB, DEFAULT_IMAGES, DEFAULT_PIXELS = 64, 4096, 25_000_000
"""Limits where the options state none."""
GRACE_SECONDS = 5
ONLY_FRONT = "grpcio"
"""The front of versions that have no choice."""
TOKEN = "token-of-the-good-client"
START_SECONDS = 60.0
LOG_LINES = 10
"""Lines of the log in errors."""


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """The server's code."""

    root: Path
    """Folder of the package."""
    python: str
    """Interpreter that has its requirements."""

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PARTEDVAE_")}
        return {**kept, "PYTHONPATH": str(self.root), "ORT_DISABLE_TELEMETRY": "1"}

    def has_option(self, name: str) -> bool:
        """Return whether its `serve` has an option, such as "--memory-mb"."""
        command = [self.python, "-m", "partedvae", "serve", "--help"]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            reason = done.stderr.strip().rpartition("\n")[2]
            raise BenchmarkError(
                f"cannot run `partedvae serve` of {self.root}: {reason}; choose an interpreter that has what it "
                "requires with --python"
            )
        return name in done.stdout

    def deployed_options(self) -> list[str]:
        """Return the options of its deploy/kubernetes.yaml, apart from addresses and times."""
        path = self.root / MANIFEST
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document["kind"] == "Deployment":
                (container,) = document["spec"]["template"]["spec"]["containers"]
                ours = ("--metrics-address", "--grace-seconds", "--address")
                return [option for option in container["args"] if not option.startswith(ours)]
        raise BenchmarkError(f"{path} has no Deployment")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Options of a server, and what they mean for an attack."""

    arguments: tuple[str, ...]
    workers: int
    memory_mb: int
    """Budget of each worker in MiB."""
    max_message_mb: int
    token: str
    log_is_json: bool


def server_options(kind: Options, checkout: Checkout, folder: Path, front: str) -> ServerOptions:
    """Return the options of a kind.

    Args:
        kind: kind of options.
        checkout: code of the server, some versions of which have no --memory-mb or no --front.
        folder: where to write the file of tokens.
        front: "grpcio" or "native".
    """
    options = [] if kind == "default" else checkout.deployed_options()
    options += ["--metrics-address=127.0.0.1:0", f"--grace-seconds={GRACE_SECONDS}"]
    if front != ONLY_FRONT or checkout.has_option("--front"):
        options.append(f"--front={front}")
    if kind == "tokens":
        tokens = folder / "tokens"
        tokens.write_text(TOKEN + "\n", encoding="utf-8")
        options.append(f"--token-file={tokens}")
    if _value(options, "--memory-mb") is None and checkout.has_option("--memory-mb"):
        options.append(f"--memory-mb={MEMORY_MB[kind]}")
    return ServerOptions(
        arguments=tuple(options),
        workers=int(_value(options, "--workers") or 1),
        memory_mb=int(_value(options, "--memory-mb") or MEMORY_MB[kind]),
        max_message_mb=int(_value(options, "--max-message-mb") or DEFAULT_MESSAGE_MB),
        token=TOKEN if kind == "tokens" else "",
        log_is_json=_value(options, "--log-format") == "json",
    )


def _value(options: list[str], name: str) -> str | None:
    return next((option.partition("=")[2] for option in options if option.startswith(f"{name}=")), None)


def copy_model(source: Path, models: Path) -> None:
    """Copy a version of a model as the versions of the model that is served.

    Args:
        source: folder of the version.
        models: folder of models to write.
    """
    for version in VERSIONS:
        shutil.copytree(source, models / MODEL / str(version))


@dataclass(frozen=True, kw_only=True)
class AttackedServer:
    """A running server."""

    process: subprocess.Popen[str]
    target: Target
    options: ServerOptions
    log_file: Path

    @property
    def pid(self) -> int:
        """Number of its first process."""
        return self.process.pid

    def is_running(self) -> bool:
        """Return whether its first process runs."""
        return self.process.poll() is None

    def stop(self, seconds: float) -> bool:
        """Send SIGTERM; return whether it ended well within some seconds, and kill it otherwise."""
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            kill_tree(self.pid)
            return False


@contextmanager
def running_server(
    kind: Options, checkout: Checkout, models: Path, folder: Path, front: str = ONLY_FRONT
) -> Iterator[AttackedServer]:
    """Serve models on a free port of the loopback interface within the block.

    Args:
        kind: kind of options.
        checkout: code of the server.
        models: folder of models, from `copy_model`.
        folder: where the log and the tokens are written.
        front: "grpcio" or "native".

    Raises:
        BenchmarkError: the server did not start.
    """
    options = server_options(kind, checkout, folder, front)
    log_file = folder / f"{kind}-{front}.log"
    command = [checkout.python, "-m", "partedvae", "serve", str(models), "--address=127.0.0.1:0", *options.arguments]
    with log_file.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=checkout.root, env=checkout.environment(), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("serving on "):
            raise BenchmarkError(f"the server did not start:\n{_end_of(log_file)}")
        target = _target(line.split()[-1], options, log_file)
        yield AttackedServer(process=process, target=target, options=options, log_file=log_file)
    finally:
        kill_tree(process.pid)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _target(address: str, options: ServerOptions, log_file: Path) -> Target:
    """Return what GetModel says about the server."""
    metadata = (("authorization", f"Bearer {options.token}"),) if options.token else ()
    request = pb.GetModelRequest(model=pb.ModelSelector(name=MODEL))
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        details = PartedVAEServiceStub(channel).GetModel(request, timeout=START_SECONDS, metadata=metadata)
    manifest, limits = details.manifest, details.limits
    return Target(
        address=address,
        metrics_address=_metrics_address(log_file),
        token=options.token,
        model=MODEL,
        versions=VERSIONS,
        image_shape=(manifest.image.height, manifest.image.width, manifest.image.channels),
        latent_dims=(sum(factor.u_dim for factor in manifest.factors), manifest.z_dim),
        factor=manifest.factors[0].name,
        # Versions before 0.3 do not report their limits.
        max_message_bytes=limits.max_message_bytes or options.max_message_mb << 20,
        max_images=limits.max_images or DEFAULT_IMAGES,
        max_pixels=limits.max_pixels or DEFAULT_PIXELS,
    )


def _metrics_address(log_file: Path) -> str:
    """Return the address of the metrics, which the log states."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if match := re.search(r"metrics on http://([^/\s\"]+)/metrics", log_file.read_text(encoding="utf-8")):
            return match[1]
        time.sleep(0.1)
    raise BenchmarkError(f"the server's log states no address of metrics:\n{_end_of(log_file)}")


def _end_of(log_file: Path) -> str:
    return "\n".join(log_file.read_text(encoding="utf-8").splitlines()[-LOG_LINES:])


def this_checkout() -> Checkout:
    """Return the code that this file belongs to, and the interpreter that runs it."""
    return Checkout(root=ROOT, python=sys.executable)
