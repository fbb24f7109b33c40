"""Counts the project's files that one call enters, on the server and in the client.

Usage: python -m tests.call_path

The server runs in this process with its whole stack (gRPC, handlers, servicer, batching, ONNX Runtime) over a tiny
model. A first call warms every cache; then one `ExtractFeatures` of a raw stub is recorded on the server's threads, and
one `Client.features` on the caller's thread. A file counts when a function in it is entered between request and reply;
"changes of file" counts how often the function entered next is in another file than the one before. Generated stubs and
libraries do not count.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import grpc

from partedvae.client import Client
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import Images, PackedImages
from tests.bundles import GREY

ROOT = Path(__file__).resolve().parent.parent
NOT_COUNTED = ("tests/", "benchmarks/", "partedvae/v1/", "partedvae/oip/")
"""Folders whose files do not count: measurement, and generated stubs."""


@dataclass
class CallPath:
    """Project files in the order in which functions in them were entered."""

    entered: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[str]:
        """Distinct files, in the order of their first function."""
        return list(dict.fromkeys(self.entered))

    @property
    def changes(self) -> int:
        """How often the next function is in another file than the one before."""
        return sum(before != after for before, after in pairwise(self.entered))


class Recorder:
    """Profiler hook of all threads that start after `install`; records while a recording is on."""

    def __init__(self) -> None:
        """Start with no recording."""
        self._record: CallPath | None = None
        self._on_caller = False
        self._caller: int | None = None
        self._frames: list[FrameType] = []
        self._seen: set[int] = set()
        self._names: dict[str, str | None] = {}

    def install(self) -> None:
        """Set the hook for this thread and for all threads that start from now on."""
        threading.setprofile(self._hook)
        sys.setprofile(self._hook)

    def uninstall(self) -> None:
        """Remove the hook from this thread and from those that start from now on."""
        threading.setprofile(None)
        sys.setprofile(None)

    def record(self, call: Callable[[], object], *, on_caller: bool) -> CallPath:
        """Run a call and return the files that it enters.

        Args:
            call: what to run, in this thread.
            on_caller: whether to record this thread, or all others.
        """
        self._caller, self._on_caller = threading.get_ident(), on_caller
        self._frames, self._seen = [], set()
        self._record = path = CallPath()
        call()
        self._record = None
        return path

    def _hook(self, frame: FrameType, event: str, arg: Any) -> None:
        record = self._record
        if record is None or event != "call" or (threading.get_ident() == self._caller) is not self._on_caller:
            return
        name = self._name_of(frame.f_code.co_filename)
        # A coroutine that goes on after an await is reported again: only its start counts.
        if name is None or id(frame) in self._seen:
            return
        self._frames.append(frame)  # Keeps the id from being used again.
        self._seen.add(id(frame))
        record.entered.append(name)

    def _name_of(self, filename: str) -> str | None:
        """Return the path of a project file below the repository's root, None for every other file."""
        if filename not in self._names:
            path = Path(filename).resolve()
            name = path.relative_to(ROOT).as_posix() if path.is_file() and path.is_relative_to(ROOT) else None
            counted = name is not None and not name.startswith((*NOT_COUNTED, ".venv"))
            self._names[filename] = name if counted else None
        return self._names[filename]


def measure() -> dict[str, CallPath]:
    """Serve a tiny model in this process and return the path of each call."""
    from partedvae.serving.config.serve_config import ServeConfig
    from partedvae.serving.server.worker import run

    recorder = Recorder()
    paths: dict[str, CallPath] = {}
    images = GREY.random_images(1)
    request = pb.ExtractFeaturesRequest(images=Images(packed=PackedImages(data=images.tobytes(), shape=images.shape)))

    def call(address: str) -> None:
        try:
            with grpc.insecure_channel(address) as channel, Client(address) as client:
                stub = PartedVAEServiceStub(channel)
                stub.ExtractFeatures(request)
                client.features(images)
                paths["ExtractFeatures"] = recorder.record(lambda: stub.ExtractFeatures(request), on_caller=False)
                paths["Client.features"] = recorder.record(lambda: client.features(images), on_caller=True)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with tempfile.TemporaryDirectory() as folder:
        GREY.write(Path(folder) / "tiny")
        config = ServeConfig(models_dir=Path(folder), address="127.0.0.1:0", threads=1)
        recorder.install()
        try:
            # Serving needs the main thread for its signals, so that the caller gets another.
            run(config, lambda address: threading.Thread(target=call, args=(address,)).start())
        finally:
            recorder.uninstall()
    return paths


def main() -> None:
    """Print the figures and the files."""
    for name, path in measure().items():
        print(f"{name}: {len(path.files)} files, {path.changes} changes of file, {len(path.entered)} functions")
        for file in path.files:
            print(f"  {path.entered.count(file):3d}  {file}")


if __name__ == "__main__":
    main()
