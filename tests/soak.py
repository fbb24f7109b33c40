"""Serves a mixed load for a long time and judges the end of it: no errors, and no more memory than after a minute.

    python -m tests.soak [--seconds 600] [--workers 2]

The load (`LOAD`): features of 1 and of 64 images, classes, new images, streams, and a caller whose deadlines are too
short to be met. Every minute a new version of the model takes over and an old one is deleted; of one answer in fifty
the numbers are checked against the version that it names. Exits with 1 when something is not as it should be.
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
"""Before the first look at the memory, which then holds what a change of versions takes."""
VERSIONS_KEPT = 2
CHECKED = 50
"""One answer in so many has its numbers checked."""
MAX_GROWTH = 0.05
WINDOW = 10
"""Seconds over which the memory is taken: the median, since it moves with each request."""
STREAM_CHUNKS = 20
SHORT_DEADLINE = 0.005
"""Seconds; met by some, missed by most when there is much to do."""
PAUSE = 0.05
"""Seconds between such calls, or they would be most of the load."""
SEEDS = 20
"""Batches of images of each size: making them anew for each call would take more than to serve them."""


class Models:
    """A folder with one model whose versions have weights of their own."""

    def __init__(self, folder: Path) -> None:
        """Write version 1."""
        self.folder = folder
        self.written: dict[int, TinyModel] = {}
        self.swap()

    def swap(self) -> None:
        """Write the next version and delete the one that nobody should ask for any more."""
        version = len(self.written) + 1
        # Known before it is served.
        self.written[version] = model = replace(GREY, seed=version)
        model.write(self.folder / "tiny")
        rmtree(self.folder / "tiny" / str(version - VERSIONS_KEPT), ignore_errors=True)


class Tally:
    """Counts of all callers."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.images: Counter[str] = Counter()
        self.missed_deadlines = 0
        self.errors: Counter[str] = Counter()

    def answered(self, kind: str, images: int) -> int:
        """Count an answer and return how many of its kind there were."""
        with self._lock:
            self.calls[kind] += 1
            self.images[kind] += images
            return self.calls[kind]

    def failed(self, kind: str, reason: str) -> None:
        """Count an error, or a deadline that was asked for."""
        with self._lock:
            if kind == "deadlines" and reason.startswith("DEADLINE_EXCEEDED"):
                self.missed_deadlines += 1
            else:
                self.errors[f"{kind}: {reason}"] += 1


class Caller:
    """Asks one kind of thing, one call after the other, over a connection of its own."""

    def __init__(self, kind: str, images: int, models: Models, tally: Tally) -> None:
        """Take what to ask (a name of `KINDS`), for how many images a call, and where to count."""
        self.kind = kind
        self.images = images
        self.models = models
        self.tally = tally

    def run(self, address: str, stopped: threading.Event) -> None:
        """Ask until told to stop."""
        with grpc.insecure_channel(address) as channel:
            stub = PartedVAEServiceStub(channel)
            seed = 0
            while not stopped.is_set():
                seed = (seed + 1) % SEEDS
                try:
                    KINDS[self.kind](self, stub, seed)
                except grpc.RpcError as error:
                    self.tally.failed(self.kind, f"{error.code().name} {error.details()}")
                except (AssertionError, ValueError) as error:  # Wrong numbers; too few or too many answers.
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
        assert len(reply.factors[0].class_indices) == self.images, "another number of classes than of images"
        self.tally.answered(self.kind, self.images)

    def generate(self, stub: PartedVAEServiceStub, seed: int) -> None:
        reply = stub.Generate(pb.GenerateRequest(count=self.images, seed=seed, format=pb.IMAGE_FORMAT_PNG))
        assert len(reply.images.encoded.items) == self.images, "another number of images than asked for"
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
"""Kind and images a call of each caller."""


_images = cache(images_message)


def load(server: ServerProcess, models: Models, tally: Tally, seconds: float) -> list[int]:
    """Let all callers ask for so long, while versions come and go; return the memory, taken each second."""
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
    """Print what was measured, and return what is wrong with it."""
    seconds = len(memory)
    after = min(60, seconds - WINDOW)
    first, last = (statistics.median(part) / 1e6 for part in (memory[after - WINDOW : after], memory[-WINDOW:]))
    for kind in KINDS:
        calls, images = tally.calls[kind] / seconds, tally.images[kind] / seconds
        click.echo(f"{kind:10} {calls:8,.0f} answers/s {images:9,.0f} images/s")
    click.echo(f"deadlines missed, as was meant: {tally.missed_deadlines:,}")
    click.echo(f"memory after {after} s: {first:.1f} MB, at the end: {last:.1f} MB ({last / first - 1:+.1%})")
    problems = [f"{count} times: {error}" for error, count in tally.errors.items()]
    problems += [f"no answer to {kind}" for kind in KINDS if kind != "deadlines" and not tally.calls[kind]]
    problems += [line for line in log.splitlines() if " ERROR " in line or "Traceback" in line]
    if last > first * (1 + MAX_GROWTH):
        problems.append(f"the memory grew by more than {MAX_GROWTH:.0%}")
    return problems


@click.command()
@click.option("--seconds", type=click.IntRange(min=30), default=600, show_default=True, help="How long.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes of the server.")
def main(seconds: int, workers: int) -> None:
    """Serve a mixed load for long; end with 1 when there are errors or the memory grows."""
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
