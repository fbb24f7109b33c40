"""State shared by both gRPC services: batched models, image decoding, thread pool, reply size limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from partedvae.results import ImageArray
from partedvae.serving.batching.admission import Admission
from partedvae.serving.batching.model import BatchedModel, BatchedModels
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.grpc.model_loader import ModelLoader
from partedvae.serving.images import ImageLimits, count_images, decode, decode_each, from_message, from_packed
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository.repository import ModelRepository
from partedvae.v1.manifest_pb2 import ImageSpec
from partedvae.v1.tensors_pb2 import Images

T = TypeVar("T")

RETRY_AFTER = 1.0
"""Retry delay in seconds when too many image files wait for a thread: decoding times differ too much to estimate it."""


class ServiceContext:
    """One instance for all services of a server, so that they share queues and limits. Use it from the event loop."""

    def __init__(
        self,
        repository: ModelRepository,
        models: BatchedModels,
        executor: Executor,
        limits: ImageLimits,
        max_message_bytes: int,
    ) -> None:
        """Create the state of a server.

        Args:
            repository: versions of models.
            models: their batchers.
            executor: threads for image files.
            limits: limits of one request.
            max_message_bytes: maximum size of a reply.
        """
        self.repository = repository
        self.limits = limits
        self.reader = ImageReader(executor, limits, models.policy.max_queue_rows)
        self._models = models
        self._loader = ModelLoader(repository)
        self._executor = executor
        self.max_message_bytes = max_message_bytes

    async def model(self, name: str, version: int, *, blocking: bool = False) -> BatchedModel:
        """Return a model for one call, after loading it if necessary.

        Args:
            name: the model's name; errors are those of `ModelLoader.load`.
            version: its version; 0 is the newest.
            blocking: whether the call waits for capacity; see `BatchedModels.of`.
        """
        model = self.repository.loaded(name, version)
        if model is None:
            model = await self._loader.load(name, version, blocking=blocking)
        return self._models.of(model, blocking=blocking)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work in the thread pool and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def max_reply(self, model: OnnxModel) -> int:
        """Return the maximum number of images in one reply."""
        return min(self.limits.max_images, self.max_message_bytes // _image_bytes(model))

    def check_reply(self, model: OnnxModel, count: int) -> None:
        """Check that a number of images fits into one reply.

        Raises:
            InvalidInputError: it does not.
        """
        each = _image_bytes(model)
        if count * each > self.max_message_bytes:
            raise InvalidInputError(
                f"{count} images of {each:,} bytes are above the limit of {self.max_message_bytes:,} bytes per "
                f"message; request at most {self.max_message_bytes // each} images per call"
            )


class ImageReader:
    """Converts the images of requests to arrays: raw pixels on the event loop, image files in the thread pool.

    Images that wait for a thread are limited by the same rules as images that wait for a session.
    """

    def __init__(self, executor: Executor, limits: ImageLimits, max_queue_rows: int) -> None:
        """Create a reader.

        Args:
            executor: threads that decode and resize images.
            limits: limits of one request.
            max_queue_rows: maximum number of images that wait for a thread.
        """
        self._executor = executor
        self._limits = limits
        self._admission = Admission(max_queue_rows, lambda: RETRY_AFTER)

    async def read(self, message: Images, spec: ImageSpec) -> ImageArray:
        """Return uint8 [images, height, width, channels] at the model's size.

        Raises:
            InvalidInputError: an image cannot be used; see `partedvae.serving.images`.
            OverloadedError: too many images wait for a thread.
        """
        if _is_view(message, spec):
            return from_packed(message.packed.data, message.packed.shape, spec, self._limits)
        return await self._read(lambda: from_message(message, spec, self._limits), count_images(message))

    async def read_files(self, files: Sequence[bytes], spec: ImageSpec) -> ImageArray:
        """Decode image files; result and errors are those of `read`."""
        return await self._read(lambda: decode(files, spec, self._limits), len(files))

    async def read_each(self, message: Images, spec: ImageSpec) -> tuple[ImageArray, list[ImageError]]:
        """Return the images that can be used, possibly none, and an error for each file that cannot.

        Waits for capacity instead of raising OverloadedError.

        Raises:
            InvalidInputError: the message as a whole cannot be used.
        """
        if _is_view(message, spec):
            return from_packed(message.packed.data, message.packed.shape, spec, self._limits), []
        rows = count_images(message)
        await self._admission.acquire(rows)
        return await self._in_thread(lambda: self._read_each(message, spec), rows, blocking=True)

    async def _read(self, work: Callable[[], ImageArray], rows: int) -> ImageArray:
        self._admission.try_acquire(rows)
        return await self._in_thread(work, rows, blocking=False)

    def _read_each(self, message: Images, spec: ImageSpec) -> tuple[ImageArray, list[ImageError]]:
        if message.WhichOneof("source") == "encoded":
            return decode_each(message.encoded.items, spec, self._limits)
        return from_message(message, spec, self._limits), []

    async def _in_thread(self, work: Callable[[], T], rows: int, *, blocking: bool) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._admission.release(rows, blocking=blocking)


def _is_view(message: Images, spec: ImageSpec) -> bool:
    """Report whether the images are pixels at the model's own size, which need no conversion and no copy."""
    if message.WhichOneof("source") != "packed":
        return False
    return tuple(message.packed.shape[1:]) in ((spec.height, spec.width, spec.channels), (spec.height, spec.width))


def _image_bytes(model: OnnxModel) -> int:
    spec = model.manifest.image
    return spec.height * spec.width * spec.channels
