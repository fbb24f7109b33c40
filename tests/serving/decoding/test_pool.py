"""Tests of `partedvae.serving.decoding.pool.DecodePool` with real processes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import pytest_asyncio
from PIL import Image

from partedvae.common.cpus import available_cpus
from partedvae.results import ImageArray
from partedvae.serving.decoding import plan, processes
from partedvae.serving.decoding.job import Job
from partedvae.serving.decoding.pool import DecodePool
from partedvae.serving.decoding.process import DecodeProcess
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.image_files import decode_file
from partedvae.serving.images import ImageLimits, decode
from partedvae.v1.manifest_pb2 import FIT_PAD, ImageSpec
from tests.processes import PATIENCE, wait_until
from tests.serving.hostile_files import bmp_of_runs, gif_of_two_palettes, jpeg_of_scans, tiff_of_a_tile
from tests.serving.pictures import file_of, heic_of, noise

GREY = ImageSpec(height=8, width=6, channels=1)
RGB = ImageSpec(height=8, width=6, channels=3, fit=FIT_PAD)
PNG = file_of(noise())
SLOW = bmp_of_runs(4000, 4000)
"""Takes most of a second in Python."""


async def started(pool: DecodePool, count: int = 1) -> list[int]:
    """Wait for decoding processes, and return their ids."""
    async with asyncio.timeout(PATIENCE):
        while len(pool.pids) < count:
            await asyncio.sleep(0.01)
    return pool.pids


async def ended(*pids: int) -> None:
    """Wait until processes have ended and have been waited for."""
    async with asyncio.timeout(PATIENCE):
        while any(psutil.pid_exists(pid) for pid in pids):
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[DecodePool]:
    with ThreadPoolExecutor(4) as executor:
        pool = DecodePool(executor, ImageLimits(), processes=2)
        yield pool
        pids = pool.pids
        await pool.close()
        assert not any(psutil.pid_exists(pid) for pid in pids)


async def decoded(pool: DecodePool, *files: bytes, spec: ImageSpec = GREY) -> ImageArray:
    return await pool.decode(await pool.plan(files, spec, sum(map(len, files))))


def pictures() -> dict[str, bytes]:
    """Return a file of each format and kind of pixels."""
    colours = noise(64, 50, "RGB")
    alpha = colours.copy()
    alpha.putalpha(noise(64, 50))
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 1 << 16, (50, 64), dtype=np.uint16))
    return {
        "png": file_of(colours),
        "png grey": file_of(noise(64, 50)),
        "png 1": file_of(noise(64, 50, "1")),
        "png palette": file_of(colours.quantize(32)),
        "png rgba": file_of(alpha),
        "png 16": file_of(wide),
        "png turned": file_of(colours, exif=exif),
        "jpeg": file_of(colours, "JPEG"),
        "jpeg turned": file_of(colours, "JPEG", exif=exif),
        "jpeg progressive": file_of(colours, "JPEG", progressive=True),
        "jpeg cmyk": file_of(colours.convert("CMYK"), "JPEG"),
        "webp": file_of(colours, "WEBP"),
        "webp lossless": file_of(alpha, "WEBP", lossless=True),
        "webp animated": file_of(colours, "WEBP", save_all=True, append_images=[noise(64, 50, "RGB")]),
        "bmp": file_of(colours, "BMP"),
        "bmp runs": bmp_of_runs(64, 50),
        "gif": file_of(colours, "GIF"),
        "gif animated": file_of(colours, "GIF", save_all=True, append_images=[noise(64, 50, "RGB")]),
        "gif palettes": gif_of_two_palettes(),
        "tiff": file_of(colours, "TIFF"),
        "tiff lzw": file_of(alpha, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": file_of(colours, "TIFF", compression="jpeg"),
        "heic": heic_of(colours),
    }


@pytest.mark.parametrize("spec", [GREY, RGB], ids=["grey", "rgb padded"])
async def test_processes_and_threads_give_the_same_pixels(
    pool: DecodePool, spec: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, for every format, whatever is decoded where."""
    files = pictures()
    expected = decode(list(files.values()), spec)
    planned = await pool.plan(list(files.values()), spec, 0)
    slow = {list(files)[index] for index in planned.slow}
    assert slow == {
        "bmp runs",
        "gif",
        "gif animated",
        "gif palettes",
        "heic",
        "tiff",
        "tiff jpeg",
        "tiff lzw",
        "webp animated",
    }
    np.testing.assert_array_equal(await pool.decode(planned), expected)
    monkeypatch.setattr(plan, "THREAD_SECONDS", 0.0)
    planned = await pool.plan(list(files.values()), spec, 0)
    assert list(planned.slow) == list(range(len(files)))
    np.testing.assert_array_equal(await pool.decode(planned), expected)
    assert len(pool.pids) == 2


async def test_cheap_files_start_no_process(pool: DecodePool) -> None:
    photo = file_of(noise(640, 480, "RGB"), "JPEG")
    files = [PNG, photo] * 40
    np.testing.assert_array_equal(await decoded(pool, *files), decode(files, GREY))
    assert pool.pids == []


async def test_a_header_that_is_not_understood(pool: DecodePool) -> None:
    """Small images are decoded all the same; a large one would be decoded in a thread for its small size."""
    tiny = struct.pack("<2sIHHIIHHHH", b"BM", 30, 0, 0, 26, 12, 1, 1, 1, 24) + b"\x80\x80\x80\0"
    np.testing.assert_array_equal(await decoded(pool, tiny), np.full((1, 8, 6, 1), 128))
    large = file_of(Image.new("L", (1000, 1000)))
    planned = await pool.plan([large], GREY, 0)
    planned.quick[0] = dataclasses.replace(planned.quick[0], width=30)
    with pytest.raises(ImageError, match="image 0: damaged file: its headers have 30x1000 and 1000x1000 pixels"):
        await pool.decode(planned)


async def test_first_error_is_raised(pool: DecodePool) -> None:
    """Of threads, processes, and files that were refused before."""
    truncated_gif, damaged = file_of(noise(), "GIF")[:40], PNG[:60]
    many = jpeg_of_scans(5000)
    for files in ([PNG, truncated_gif, damaged, many], [PNG, damaged, truncated_gif], [PNG, many, damaged]):
        with pytest.raises(ImageError) as caught:
            await decoded(pool, *files)
        assert caught.value.index == 1, caught.value
    with pytest.raises(ImageError, match=r"^image 0: JPEG file with more than 100 scans: save it again"):
        await decoded(pool, many)


async def test_errors_are_skipped_in_order(pool: DecodePool) -> None:
    gif = file_of(noise(), "GIF")
    files = [b"", gif, jpeg_of_scans(5000), PNG, gif[:40], PNG[:60], b"%PDF"]
    images, errors = await pool.decode_each(await pool.plan(files, GREY, 0))
    np.testing.assert_array_equal(images, decode([gif, PNG], GREY))
    assert [error.index for error in errors] == [0, 2, 4, 5, 6]
    assert errors[2].reason.startswith("damaged GIF file: ")
    assert errors[4].reason == "PDF is not supported: send a PNG, JPEG, WebP, BMP, TIFF or GIF file"


async def test_limits_of_pixels() -> None:
    """Are checked before a process is started, for each image and for all."""
    with ThreadPoolExecutor(1) as executor:
        pool = DecodePool(executor, ImageLimits(max_pixels=1000, max_request_pixels=1900), processes=1)
        small = file_of(noise(30, 30), "GIF")
        for file in (file_of(noise(40, 30), fmt) for fmt in ("GIF", "TIFF", "BMP", "WEBP", "JPEG")):
            with pytest.raises(
                ImageError, match=r"^image 0: 40x30 pixels are above the limit of 1,000: make the image"
            ):
                await decoded(pool, file, small)
        with pytest.raises(InvalidInputError, match="the images of the request have more than 1,900 pixels"):
            await pool.plan([small] * 3, GREY, 0)
        assert pool.pids == []
        # Its size without padding is known to the decoder only.
        with pytest.raises(ImageError, match=r"^image 0: 40x30 pixels are above the limit of 1,000: make the image"):
            await decoded(pool, heic_of(noise(40, 30)))
        await pool.close()


async def test_cancelled_calls_kill_their_process(pool: DecodePool) -> None:
    """And only theirs: another file is decoded meanwhile and afterwards."""
    tasks = [asyncio.create_task(decoded(pool, SLOW)) for _ in range(5)]
    pids = await started(pool, 2)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await ended(*pids)
    gif = file_of(noise(), "GIF")
    np.testing.assert_array_equal(await decoded(pool, gif), decode([gif], GREY))


async def test_cancelled_calls_stop_their_threads(pool: DecodePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the image that each of them decodes."""
    decoded_files: list[int] = []
    begun = threading.Event()

    def count(index: int, content: bytes, check_size: Callable[[int, int], None]) -> Image.Image:
        decoded_files.append(index)
        begun.set()
        assert cancelled.wait(PATIENCE)
        return decode_file(index, content, check_size)

    cancelled = threading.Event()
    monkeypatch.setattr("partedvae.serving.decoding.pool.decode_file", count)
    task = asyncio.create_task(decoded(pool, *[PNG] * 1000))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cancelled.set()
    monkeypatch.undo()
    assert len(await decoded(pool, *[PNG] * 1000)) == 1000  # The same threads, so that the first task has ended.
    assert 1 <= len(decoded_files) <= available_cpus()


async def test_a_file_that_takes_too_long() -> None:
    """Ends its process; the error has the limit and a remedy, and the next file is decoded."""
    with ThreadPoolExecutor(1) as executor:
        pool = DecodePool(executor, ImageLimits(max_seconds=0.3), processes=1)
        with pytest.raises(
            ImageError, match=r"^image 0: decoding took longer than the limit of 0\.3 s: make the image"
        ):
            await decoded(pool, bmp_of_runs(5000, 5000))
        gif = file_of(noise(), "GIF")
        images, errors = await pool.decode_each(await pool.plan([gif, bmp_of_runs(5000, 5000), gif], GREY, 0))
        np.testing.assert_array_equal(images, decode([gif, gif], GREY))
        assert [error.index for error in errors] == [1]
        await pool.close()


async def test_a_stopped_process_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that takes no processor time is limited too."""
    with ThreadPoolExecutor(1) as executor:
        pool = DecodePool(executor, ImageLimits(max_seconds=1), processes=1)
        gif = file_of(noise(), "GIF")
        await decoded(pool, gif)
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(processes, "WALL_FACTOR", 0)
        monkeypatch.setattr(processes, "START_SECONDS", 0.2)
        with pytest.raises(ImageError, match="decoding took longer than the limit of 1 s"):
            await decoded(pool, gif)
        await ended(pid)
        monkeypatch.undo()
        assert len(await decoded(pool, gif)) == 1
        await pool.close()


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
async def test_a_crash_is_an_error_of_its_image(
    pool: DecodePool, signum: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    """As if a decoder crashed, or the system killed it for its memory. Other images of the request are decoded."""
    decoding = asyncio.create_task(pool.decode_each(await pool.plan([SLOW, PNG], GREY, 0)))
    (pid,) = await started(pool)
    os.kill(pid, signum)
    images, errors = await decoding
    np.testing.assert_array_equal(images, decode([PNG], GREY))
    assert [error.reason for error in errors] == ["the decoder crashed: the file is damaged, or needs too much memory"]
    assert f"a decoder crashed: the process ended with exit code {-signum}" in caplog.text


async def test_a_process_that_cannot_start_is_a_fault_of_the_installation(
    pool: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the file; and it is tried again."""
    gif = file_of(noise(), "GIF")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="a decoding process does not work: the process ended with exit code 1"):
        await decoded(pool, gif)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError, match="/nowhere/python"):
        await decoded(pool, gif)
    monkeypatch.undo()
    np.testing.assert_array_equal(await decoded(pool, gif), decode([gif], GREY))


async def test_a_bug_in_a_process_is_reported(pool: DecodePool) -> None:
    """With its traceback, and the process goes on."""
    gif = file_of(noise(), "GIF")
    planned = await pool.plan([gif], ImageSpec(height=0, width=6, channels=1), 0)
    with pytest.raises(
        RuntimeError, match=r"(?s)decoding failed:\nTraceback .*fit_image.*ValueError: height and width"
    ):
        await pool.decode(planned)
    (pid,) = pool.pids
    np.testing.assert_array_equal(await decoded(pool, gif), decode([gif], GREY))
    assert pool.pids == [pid]


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited on Linux only")
async def test_memory_is_limited(pool: DecodePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the structure says: a small image with a tile of gigabytes cannot be decoded, nor a large one in less."""
    with pytest.raises(ImageError, match=r"image 0: (damaged TIFF file|TIFF file of 10x10 pixels needs more memory)"):
        await decoded(pool, tiff_of_a_tile(10, 10, 60_000))
    (pid,) = pool.pids
    assert psutil.Process(pid).memory_info().rss < 200 << 20
    large = file_of(Image.new("RGB", (3000, 3000)), "GIF")
    monkeypatch.setattr(plan, "process_bytes", lambda structure: structure.pixels)
    monkeypatch.setattr("partedvae.serving.decoding.pool.process_bytes", lambda structure: structure.pixels)
    with pytest.raises(ImageError, match="needs more memory than is available: make"):
        await decoded(pool, large)
    assert pool.pids == [pid]
    monkeypatch.undo()
    assert len(await decoded(pool, large)) == 1


async def test_idle_processes_end() -> None:
    pool = processes.DecodeProcesses(2, idle_seconds=0.1)
    job = Job(height=8, width=6, channels=1, fit="stretch", max_pixels=10_000, memory=1 << 28, seconds=10)
    seen: set[int] = set()

    def file() -> bytes:
        seen.update(pool.pids)
        return file_of(noise(), "GIF")

    await asyncio.gather(*(pool.decode(job, file) for _ in range(8)))
    assert seen
    await ended(*seen)
    async with asyncio.timeout(PATIENCE):
        while pool.pids:
            await asyncio.sleep(0.01)
    await pool.close()


def test_processes_do_not_outlive_a_killed_server() -> None:
    """Neither an idle one nor one that is within a decoder, when the server is killed by SIGKILL."""
    program = """
import threading, time
from partedvae.serving.decoding.job import Job
from partedvae.serving.decoding.process import DecodeProcess
from tests.serving.hostile_files import bmp_of_runs
from tests.serving.pictures import file_of, noise

job = Job(height=8, width=6, channels=1, fit="stretch", max_pixels=10**9, memory=1 << 33, seconds=1000)
idle, busy = DecodeProcess(), DecodeProcess()
idle.decode(job, lambda: file_of(noise(), "GIF"))
busy.decode(job, lambda: file_of(noise(), "GIF"))
file = bmp_of_runs(30_000, 30_000)
threading.Thread(target=busy.decode, args=(job, lambda: file)).start()
print(idle.pid, busy.pid, flush=True)
time.sleep(1000)
"""
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}
    ) as server:
        assert server.stdout is not None
        try:
            decoders = [psutil.Process(int(pid)) for pid in server.stdout.readline().split()]
            began = decoders[1].cpu_times().user
            wait_until(lambda: decoders[1].cpu_times().user > began + 0.3)
        finally:
            server.kill()
    gone, alive = psutil.wait_procs(decoders, timeout=PATIENCE)
    assert (len(gone), alive) == (2, [])


def test_the_process_imports_only_what_decoding_needs() -> None:
    """It starts quickly, and has no gRPC."""
    program = "import sys, partedvae.serving.decoding.worker; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    paths = os.pathsep.join(path for path in sys.path if path)
    names = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}
    ).stdout.split()
    assert {"PIL", "numpy", "partedvae"} <= set(names)
    assert not {"grpc", "google", "onnxruntime", "click", "pyarrow", "pillow_heif"} & set(names)


async def test_memory_of_a_plan(pool: DecodePool) -> None:
    """Files that are decoded at once count, and the batch; no more than the number of threads and processes."""

    async def memory(files: Sequence[bytes]) -> int:
        return (await pool.plan(files, GREY, 0)).memory

    png = file_of(Image.new("RGB", (1000, 1000)))
    gif = file_of(Image.new("RGB", (2000, 1000)), "GIF")
    assert await memory([png]) == 48 + 18_000_000 + len(png)
    assert await memory([png] * 100) == 100 * 48 + (18_000_000 + len(png)) * min(100, available_cpus())
    assert await memory([gif]) == 48 + 36_000_000 + plan.PROCESS_BYTES + 3 * len(gif)
    assert await memory([gif] * 100) == 100 * 48 + 2 * (36_000_000 + plan.PROCESS_BYTES + 3 * len(gif))


def test_a_process_can_be_killed_before_it_starts() -> None:
    process = DecodeProcess()
    process.kill()
    process.close()
    assert process.pid is None
