"""Soak test: runs a mixed load for a long time, and checks that there are no errors and that memory does not grow.

    python -m tests.soak [--seconds 600] [--workers 2]

The load (`LOAD`) consists of features of 1 and of 64 images, classification, generation, streams, and a client whose
deadlines are too short. Every minute a new version of the model is added and an old one is deleted. The numbers of one
reply in fifty are checked against the version that it names. Exits with 1 if a check fails.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from shutil import rmtree

import click
import grpc

from benchmarks.serving.server import resident_bytes
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.bundles import GREY, TinyModel
from tests.processes import ServerProcess, running_server
from tests.serving.faults.support import assert_features, images_message

SWAP_SECONDS = 60.0
FIRST_SWAP_SECONDS = 20.0
"""Before the first measurement of memory, so that it includes the memory of a version change."""
VERSIONS_KEPT = 2
CHECKED = 50
"""The numbers of one reply in `CHECKED` are checked."""
MAX_GROWTH = 0.05
WINDOW = 10
"""Seconds over which the median of the memory is taken, because it varies with each request."""
STREAM_CHUNKS = 20
SHORT_DEADLINE = 0.005
"""Seconds; under load most calls exceed it."""
PAUSE = 0.05
"""Seconds between calls with a short deadline, which would otherwise be most of the load."""
SEEDS = 20
"""Number of different batches per size; creating a batch for each call would cost more than serving it."""


class Models:
    """A folder with one model whose versions have different weights."""

    def __init__(self, folder: Path) -> None:
        """Write version 1."""
        self.folder = folder
        self.written: dict[int, TinyModel] = {}
        self.swap()

    def swap(self) -> None:
        """Write the next version and delete the oldest."""
        version = len(self.written) + 1
        # Recorded before it is served.
        self.written[version] = model = replace(GREY, seed=version)
        model.write(self.folder / "tiny")
        rmtree(self.folder / "tiny" / str(version - VERSIONS_KEPT), ignore_errors=True)


class Tally:
    """Counts of all clients."""

    def __init__(self) -> None:
        """Create counts of zero."""
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.images: Counter[str] = Counter()
        self.missed_deadlines = 0
        self.errors: Counter[str] = Counter()

    def answered(self, kind: str, images: int) -> int:
        """Count a reply and return the number of replies of its kind."""
        with self._lock:
            self.calls[kind] += 1
            self.images[kind] += images
            return self.calls[kind]

    def failed(self, kind: str, reason: str) -> None:
        """Count an error, or an expected missed deadline."""
        with self._lock:
            if kind == "deadlines" and reason.startswith("DEADLINE_EXCEEDED"):
                self.missed_deadlines += 1
            else:
                self.errors[f"{kind}: {reason}"] += 1


class Caller:
    """A client that makes calls of one kind, one after the other, on its own connection."""

    def __init__(self, kind: str, images: int, models: Models, tally: Tally) -> None:
        """Create a client.

        Args:
            kind: kind of its calls, a key of `KINDS`.
            images: images per call.
            models: versions that may reply.
            tally: where replies and errors are counted.
        """
        self.kind = kind
        self.images = images
        self.models = models
        self.tally = tally

    def run(self, address: str, stopped: threading.Event) -> None:
        """Make calls until `stopped` is set."""
        with grpc.insecure_channel(address) as channel:
            stub = PartedVAEServiceStub(channel)
            seed = 0
            while not stopped.is_set():
                seed = (seed + 1) % SEEDS
                try:
                    KINDS[self.kind](self, stub, seed)
                except grpc.RpcError as error:
                    self.tally.failed(self.kind, f"{error.code().name} {error.details()}")
                except (AssertionError, ValueError) as error:  # Wrong numbers, or a wrong number of replies.
                    self.tally.failed(self.kind, str(error))

    def features(self, stub: PartedVAEServiceStub, seed: int) -> None:
        self._received(stub.ExtractFeatures(self._request(seed)), seed)

    def stream(self, stub: PartedVAEServiceStub, seed: int) -> None:
        seeds = [(seed + k) % SEEDS for k in range(STREAM_CHUNKS)]
        chunks = (pb.StreamFeaturesRequest(images=_images(self.images, s)) for s in seeds)
        for reply, chunk_seed in zip(stub.StreamFeatures(chunks), seeds, strict=True):
            self._received(reply.features, chunk_seed)

    def classify(self, stub: PartedVAEServiceStub, seed: int) -> None:
        reply = stub.Classify(pb.ClassifyRequest(images=_images(self.images, seed)))
        assert len(reply.factors[0].class_indices) == self.images, "the number of classes is not the number of images"
        self.tally.answered(self.kind, self.images)

    def generate(self, stub: PartedVAEServiceStub, seed: int) -> None:
        reply = stub.Generate(pb.GenerateRequest(count=self.images, seed=seed, format=pb.IMAGE_FORMAT_PNG))
        assert len(reply.images.encoded.items) == self.images, "the number of images is not the requested one"
        self.tally.answered(self.kind, self.images)

    def deadlines(self, stub: PartedVAEServiceStub, seed: int) -> None:
        time.sleep(PAUSE)
        stub.ExtractFeatures(self._request(seed), timeout=SHORT_DEADLINE)
        self.tally.answered(self.kind, self.images)

    def _request(self, seed: int) -> pb.ExtractFeaturesRequest:
        return pb.ExtractFeaturesRequest(images=_images(self.images, seed))

    def _received(self, reply: pb.ExtractFeaturesResponse, seed: int) -> None:
        if self.tally.answered(self.kind, self.images) % CHECKED == 0:
            assert_features(reply, self.images, seed, self.models.written)


KINDS = {
    "features": Caller.features,
    "stream": Caller.stream,
    "classify": Caller.classify,
    "generate": Caller.generate,
    "deadlines": Caller.deadlines,
}
LOAD = (
    ("features", 1),
    ("features", 1),
    ("features", 64),
    ("classify", 8),
    ("generate", 4),
    ("stream", 64),
    ("deadlines", 512),
)
"""Kind and images per call of each client."""


_images = cache(images_message)


def load(server: ServerProcess, models: Models, tally: Tally, seconds: float) -> list[int]:
    """Run all clients for some seconds while versions change; return the memory measured every second."""
    stopped = threading.Event()
    callers = [Caller(kind, images, models, tally) for kind, images in LOAD]
    threads = [threading.Thread(target=caller.run, args=(server.address, stopped)) for caller in callers]
    for thread in threads:
        thread.start()
    memory = []
    began = time.monotonic()
    next_swap = FIRST_SWAP_SECONDS
    while (passed := time.monotonic() - began) < seconds:
        if passed >= next_swap:
            models.swap()
            next_swap += SWAP_SECONDS
        memory.append(resident_bytes(server.process.pid))
        time.sleep(1)
    stopped.set()
    for thread in threads:
        thread.join()
    return memory


def verdict(tally: Tally, memory: list[int], log: str) -> list[str]:
    """Print the measurements and return the problems."""
    seconds = len(memory)
    after = min(60, seconds - WINDOW)
    first, last = (statistics.median(part) / 1e6 for part in (memory[after - WINDOW : after], memory[-WINDOW:]))
    for kind in KINDS:
        calls, images = tally.calls[kind] / seconds, tally.images[kind] / seconds
        click.echo(f"{kind:10} {calls:8,.0f} replies/s {images:9,.0f} images/s")
    click.echo(f"missed deadlines, as intended: {tally.missed_deadlines:,}")
    click.echo(f"memory after {after} s: {first:.1f} MB, at the end: {last:.1f} MB ({last / first - 1:+.1%})")
    problems = [f"{count} times: {error}" for error, count in tally.errors.items()]
    problems += [f"no reply to {kind}" for kind in KINDS if kind != "deadlines" and not tally.calls[kind]]
    problems += [line for line in log.splitlines() if " ERROR " in line or "Traceback" in line]
    if last > first * (1 + MAX_GROWTH):
        problems.append(f"the memory grew by more than {MAX_GROWTH:.0%}")
    return problems


@click.command()
@click.option("--seconds", type=click.IntRange(min=30), default=600, show_default=True, help="Duration of the load.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Worker processes of the server."
)
def main(seconds: int, workers: int) -> None:
    """Run a mixed load; exit with 1 if there are errors or memory grows."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        models = Models(Path(folder))
        with running_server(Path(folder), "--workers", str(workers), "--poll-seconds", "1") as server:
            memory = load(server, models, tally, seconds)
            log = server.log_file.read_text()
    click.echo(f"{len(models.written)} versions in {seconds} s")
    problems = verdict(tally, memory, log)
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
