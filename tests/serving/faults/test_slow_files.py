"""Image files that keep a decoder busy, or need much memory, sent to a real server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from PIL import Image

from partedvae.common.cpus import available_cpus
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import EncodedImages, Images
from tests.fronts import NATIVE_FRONT
from tests.processes import PATIENCE, ServerProcess, running_server, wait_until
from tests.serving.faults.support import assert_features, features_request
from tests.serving.hostile_files import bmp_of_runs, jpeg_of_scans, png_of_chunks
from tests.serving.pictures import file_of

PIXELS = ("--max-pixels", "400000000", "--max-request-pixels", "400000000", "--max-decode-seconds", "1000")
"""Limits that let files of 400 megapixels pass."""
MEMORY = ("--memory-mb", "100000")
"""Such an image needs 7 GB, of which the decoder fills nothing before it is ended."""
ENDLESS = bmp_of_runs(20_000, 20_000)
"""Takes far longer than any test waits."""
PROCESSES = max(2, available_cpus())
"""Decoding processes of a server."""


@pytest.fixture(scope="module")
def slow_server(each_front: str, tiny_models: Path) -> Iterator[ServerProcess]:
    with running_server(tiny_models, *PIXELS, *MEMORY, "--grace-seconds", "1") as server:
        yield server


def request_of(*files: bytes) -> pb.ExtractFeaturesRequest:
    return pb.ExtractFeaturesRequest(images=Images(encoded=EncodedImages(items=files)))


def decoders(server: ServerProcess) -> list[psutil.Process]:
    """Return the decoding processes of a server."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if _is_decoder(child)]


def _is_decoder(process: psutil.Process) -> bool:
    try:
        return "partedvae.serving.decoding.worker" in process.cmdline()
    except psutil.Error:  # It has ended.
        return False


@pytest.mark.exhaustive
def test_the_deadline_holds_and_others_are_answered(slow_server: ServerProcess) -> None:
    """More slow files than there are processes: each call ends at its deadline, and with it its process."""
    with grpc.insecure_channel(slow_server.address) as channel:
        stub = PartedVAEServiceStub(channel)
        calls = [stub.ExtractFeatures.future(request_of(ENDLESS), timeout=10) for _ in range(3 * PROCESSES)]
        wait_until(lambda: len(decoders(slow_server)) == PROCESSES)
        busy = decoders(slow_server)
        assert_features(stub.ExtractFeatures(features_request(3), timeout=PATIENCE), 3)
        png = file_of(Image.new("L", (6, 8)))
        assert stub.ExtractFeatures(request_of(png), timeout=PATIENCE).model.name == "tiny"
        assert not any(call.done() for call in calls)
        for call in calls:
            assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until(lambda: not decoders(slow_server))
        assert psutil.wait_procs(busy, timeout=PATIENCE)[1] == []
        gif = file_of(Image.new("L", (6, 8)), "GIF")
        assert stub.ExtractFeatures(request_of(gif), timeout=PATIENCE).model.name == "tiny"
    assert "Traceback" not in slow_server.log_file.read_text()


def test_streams_that_are_cancelled_end_their_processes(slow_server: ServerProcess) -> None:
    with grpc.insecure_channel(slow_server.address) as channel:
        stream = PartedVAEServiceStub(channel).StreamFeatures(
            iter([pb.StreamFeaturesRequest(images=Images(encoded=EncodedImages(items=[ENDLESS])))])
        )
        wait_until(lambda: any(process.cpu_times().user > 0.5 for process in decoders(slow_server)))
        stream.cancel()
        wait_until(lambda: not decoders(slow_server))


@pytest.mark.usefixtures("each_front")
@NATIVE_FRONT
def test_sigterm_ends_a_server_that_decodes(tiny_models: Path) -> None:
    """After the grace period, with its decoding processes, and exit code 0."""
    with (
        running_server(tiny_models, *PIXELS, *MEMORY, "--grace-seconds", "1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        call = PartedVAEServiceStub(channel).ExtractFeatures.future(request_of(ENDLESS))
        wait_until(lambda: bool(decoders(server)))
        busy = decoders(server)
        assert server.stop() == 0
        assert call.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        assert psutil.wait_procs(busy, timeout=PATIENCE)[1] == []
        assert "Traceback" not in server.log_file.read_text()


def test_jpeg_of_5000_scans(slow_server: ServerProcess) -> None:
    """Is refused by its structure."""
    file = jpeg_of_scans(5000, 1000, 1000)
    with grpc.insecure_channel(slow_server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        PartedVAEServiceStub(channel).ExtractFeatures(request_of(file), timeout=PATIENCE)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == ("image 0: JPEG file with more than 100 scans: save it again with another program")


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the memory from /proc")
def test_sixteen_decompression_bombs(slow_server: ServerProcess) -> None:
    """Large images in small files, of several formats, all at once: they never reach the memory of the server."""
    black = Image.new("RGB", (5000, 5000))
    bombs = [
        png_of_chunks(5000, 5000),
        png_of_chunks(5000, 5000, depth=16, colour=6),
        file_of(black, "WEBP", lossless=True),
        file_of(black, "TIFF", compression="tiff_adobe_deflate"),
    ]
    assert max(map(len, bombs)) < 300_000
    with grpc.insecure_channel(slow_server.address) as channel:
        stub = PartedVAEServiceStub(channel)
        stub.ExtractFeatures(features_request(3), timeout=PATIENCE)
        before = peak(slow_server)
        calls = [stub.ExtractFeatures.future(request_of(bomb), timeout=PATIENCE) for bomb in 4 * bombs]
        most = 0
        while not all(call.done() for call in calls):
            most = max(most, len(decoders(slow_server)))
        assert [call.code() for call in calls] == [grpc.StatusCode.OK] * 16
    assert 1 <= most <= PROCESSES
    assert peak(slow_server) - before < 50 << 20  # One of them has 100 MB of pixels.


def peak(server: ServerProcess) -> int:
    """Return the most memory that a server has had, in bytes."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    pytest.fail("the system does not report the peak")
