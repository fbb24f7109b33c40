"""From the images of a message to arrays, without keeping the event loop: pixels at once, files in threads.

Files that wait for a thread are bounded like rows that wait for a session, by the same rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from partedvae.results import ImageArray
from partedvae.serving.batching.admission import Admission
from partedvae.serving.errors import ImageError
from partedvae.serving.grpc.converters import images_from, rows_in
from partedvae.serving.images import ImageLimits, decode, decode_each
from partedvae.v1.manifest_pb2 import ImageSpec
from partedvae.v1.tensors_pb2 import Images

T = TypeVar("T")

RETRY_AFTER = 1.0
"""Seconds after which a caller may try again whose files found no room: files differ too much for an estimate."""


class ImageReader:
    """Reads the images of all calls. Belongs to the event loop."""

    def __init__(self, executor: Executor, limits: ImageLimits, max_queue_rows: int) -> None:
        """Take the threads, what is refused, and how many images may wait for a thread."""
        self._executor = executor
        self._limits = limits
        self._admission = Admission(max_queue_rows, lambda: RETRY_AFTER)

    async def read(self, message: Images, spec: ImageSpec) -> ImageArray:
        """Return uint8 [images, height, width, channels] at the model's size.

        Raises:
            InvalidInputError: an image cannot be used; see `partedvae.serving.images`.
            OverloadedError: too many images wait for a thread already.
        """
        if _needs_no_work(message, spec):
            return images_from(message, spec, self._limits)
        return await self._read(lambda: images_from(message, spec, self._limits), rows_in(message))

    async def read_files(self, files: Sequence[bytes], spec: ImageSpec) -> ImageArray:
        """Do the same for image files, of whatever message they came in."""
        return await self._read(lambda: decode(files, spec, self._limits), len(files))

    async def read_each(self, message: Images, spec: ImageSpec) -> tuple[ImageArray, list[ImageError]]:
        """Return the images that can be used, perhaps none, and an error for each file that cannot; waits for room.

        Raises:
            InvalidInputError: the images cannot be used as a whole.
        """
        if _needs_no_work(message, spec):
            return images_from(message, spec, self._limits), []
        rows = rows_in(message)
        await self._admission.acquire(rows)
        return await self._in_thread(lambda: self._read_each(message, spec), rows, blocking=True)

    async def _read(self, work: Callable[[], ImageArray], rows: int) -> ImageArray:
        self._admission.try_acquire(rows)
        return await self._in_thread(work, rows, blocking=False)

    def _read_each(self, message: Images, spec: ImageSpec) -> tuple[ImageArray, list[ImageError]]:
        if message.WhichOneof("source") == "encoded":
            return decode_each(message.encoded.items, spec, self._limits)
        return images_from(message, spec, self._limits), []

    async def _in_thread(self, work: Callable[[], T], rows: int, *, blocking: bool) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._admission.release(rows, blocking=blocking)


def _needs_no_work(message: Images, spec: ImageSpec) -> bool:
    """Tell whether the images are pixels at the model's own size, so that a view of the message will do."""
    if message.WhichOneof("source") != "packed":
        return False
    return tuple(message.packed.shape[1:]) in ((spec.height, spec.width, spec.channels), (spec.height, spec.width))
