"""Decodes the image files of requests: quick ones in threads, all others in processes, so that any can be abandoned."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
from PIL import Image

from partedvae.common.cpus import available_cpus
from partedvae.image_fit import fit_of
from partedvae.results import ImageArray
from partedvae.serving.decoding.job import Job, Reply
from partedvae.serving.decoding.plan import DecodePlan, plan, process_bytes
from partedvae.serving.decoding.processes import CrashedError, DecodeProcesses, OutOfTimeError
from partedvae.serving.errors import ImageError, without_frames
from partedvae.serving.image_files import decode_file, silence_pillow, unsupported
from partedvae.serving.images import ImageLimits, check_pixels, empty_batch, fill, without
from partedvae.v1.manifest_pb2 import ImageSpec

EXAMINED_FILES, EXAMINED_BYTES = 64, 128 << 10
"""Files of a request that are examined on the event loop: a fraction of a millisecond, four at worst."""
INLINE_SECONDS = 0.2e-3
"""Files that take less together, such as one of MNIST's size, are decoded on the event loop: it would take as long to
hand them to a thread."""
SMALL_PIXELS = 1 << 16
"""An image of at most this many pixels is cheap, also where its size was not found in its header."""


class DecodePool:
    """Decodes image files for a server. Use it from the event loop; close it at the end.

    Cancelling a call abandons its files: a thread stops after its present image, and processes are killed.
    """

    def __init__(self, executor: Executor, limits: ImageLimits, processes: int) -> None:
        """Create the pool without starting a process.

        Args:
            executor: threads that examine files and wait for images.
            limits: limits of one request.
            processes: maximum number of decoding processes.
        """
        self._executor = executor
        self._threads = available_cpus()
        self._limits = limits
        self._processes = DecodeProcesses(processes)
        silence_pillow()

    @property
    def pids(self) -> list[int]:
        """The process ids of the decoding processes."""
        return self._processes.pids

    async def plan(self, files: Sequence[bytes], spec: ImageSpec, size: int) -> DecodePlan:
        """Examine files, and say what memory decoding them takes.

        Args:
            files: the bytes of each file; sizes and modes may differ.
            spec: the size of the model's images, and how others are fitted to it.
            size: bytes of all files, or more; those of large requests are examined in a thread.

        Raises:
            InvalidInputError: there are no files, too many, or they have too many pixels together.
        """
        threads, processes = self._threads, self._processes.count
        if size <= EXAMINED_BYTES and len(files) <= EXAMINED_FILES:
            return plan(files, spec, self._limits, threads=threads, processes=processes)
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: plan(files, spec, self._limits, threads=threads, processes=processes)
        )

    async def decode(self, planned: DecodePlan) -> ImageArray:
        """Decode planned files to uint8 [images, height, width, channels].

        Raises:
            ImageError: the first file that cannot be used.
        """
        decoding = _Decoding(planned, fails_fast=True)
        await self._run(decoding)
        if decoding.errors:
            raise decoding.first_error()
        return decoding.batch

    async def decode_each(self, planned: DecodePlan) -> tuple[ImageArray, list[ImageError]]:
        """Decode planned files, and skip those that cannot be used.

        Returns:
            The usable images, uint8 [images, height, width, channels], possibly none; and an error per skipped image.
            Both are in order.
        """
        decoding = _Decoding(planned, fails_fast=False)
        await self._run(decoding)
        return without(list(decoding.errors.values()), decoding.batch)

    async def close(self) -> None:
        """Kill the processes. Calls that wait for them fail."""
        await self._processes.close()

    async def _run(self, decoding: _Decoding) -> None:
        """Decode all files that are wanted; errors are collected."""
        try:
            if not decoding.planned.slow:
                if decoding.planned.quick_seconds <= INLINE_SECONDS:
                    decoding.decode_quick()
                else:
                    await self._decode_quick(decoding)
                return
            async with asyncio.TaskGroup() as tasks:
                if decoding.planned.quick:
                    tasks.create_task(self._decode_quick(decoding))
                # A request has as many files in progress as there are processes, so that others get their turn.
                slow = iter(decoding.planned.slow)
                for _ in range(min(self._processes.count, len(decoding.planned.slow))):
                    tasks.create_task(self._decode_slow(decoding, slow))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            decoding.abandoned.set()

    async def _decode_quick(self, decoding: _Decoding) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, decoding.decode_quick)

    async def _decode_slow(self, decoding: _Decoding, indices: Iterator[int]) -> None:
        """Decode files in processes, one after the other."""
        for index in indices:
            if decoding.is_wanted(index):
                try:
                    decoding.batch[index] = await self._in_process(decoding.planned, index)
                except ImageError as error:
                    decoding.fail(error)

    async def _in_process(self, planned: DecodePlan, index: int) -> ImageArray:
        """Decode one file to uint8 [height, width, channels].

        Raises:
            ImageError: it cannot be used.
            RuntimeError: a bug, whose traceback is in the message.
        """
        spec, structure = planned.spec, planned.slow[index]
        fit = fit_of(spec)
        assert fit is not None, "a bundle with an unknown fit is not loaded"
        job = Job(
            height=spec.height,
            width=spec.width,
            channels=spec.channels,
            fit=fit,
            max_pixels=self._limits.max_pixels,
            memory=process_bytes(structure),
            seconds=self._limits.max_seconds,
        )
        try:
            kind, content = await self._processes.decode(job, lambda: planned.files[index])
        except OutOfTimeError as error:
            raise ImageError(
                index,
                f"decoding took longer than the limit of {self._limits.max_seconds:g} s: make the image smaller, or "
                "save it as PNG or JPEG",
            ) from error
        except CrashedError as error:
            raise ImageError(index, "the decoder crashed: the file is damaged, or needs too much memory") from error
        if kind == Reply.PIXELS:
            return np.frombuffer(content, np.uint8).reshape(job.size)
        reason = content.decode("utf-8", "replace")
        if kind == Reply.FAILED:
            raise RuntimeError(f"decoding failed:\n{reason}")
        if kind == Reply.TOO_LARGE:
            width, height = map(int, reason.split("x"))
            check_pixels(index, width, height, self._limits)
        raise ImageError(index, unsupported(reason) if kind == Reply.UNSUPPORTED else reason)


class _Decoding:
    """The state of one call."""

    def __init__(self, planned: DecodePlan, *, fails_fast: bool) -> None:
        """Start with an empty batch.

        Args:
            planned: the files.
            fails_fast: whether files after the first that cannot be used are not needed.
        """
        self.planned = planned
        self.batch = empty_batch(len(planned.files), planned.spec)
        self.errors = {error.index: error for error in planned.errors}
        """By index."""
        self.abandoned = threading.Event()
        self._fails_fast = fails_fast
        self._first = min(self.errors, default=len(planned.files))

    def is_wanted(self, index: int) -> bool:
        """Report whether a file still has to be decoded."""
        return not self.abandoned.is_set() and not (self._fails_fast and index > self._first)

    def fail(self, error: ImageError) -> None:
        """Note that a file cannot be used. Thread-safe: a dict and a number, of which the smaller stays at last."""
        self.errors[error.index] = without_frames(error)
        self._first = min(self.errors.copy())

    def first_error(self) -> ImageError:
        """Return the error of the first file."""
        return self.errors[min(self.errors)]

    def decode_quick(self) -> None:
        """Decode the quick files in threads."""
        fill(self.batch, list(self.planned.quick), self.planned.spec, self._quick)

    def _quick(self, index: int) -> Image.Image | None:
        """Return a quick image, or None if it is not wanted or cannot be used."""
        if not self.is_wanted(index):
            return None
        structure = self.planned.quick[index]

        def check_size(width: int, height: int) -> None:
            if width * height > max(structure.pixels, SMALL_PIXELS):
                raise ImageError(
                    index,
                    f"damaged file: its headers have {structure.width}x{structure.height} and {width}x{height} pixels",
                )

        try:
            return decode_file(index, self.planned.files[index], check_size)
        except ImageError as error:
            self.fail(error)
            return None
