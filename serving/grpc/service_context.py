"""State shared by both gRPC services: batched models, image decoding, thread pool, reply size limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TypeVar

from partedvae.results import ImageArray
from partedvae.serving.batching.admission import Admission
from partedvae.serving.batching.model import BatchedModel, BatchedModels
from partedvae.serving.decoding.pool import DecodePool
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.grpc.model_loader import ModelLoader
from partedvae.serving.images import ImageLimits, count_images, from_message, from_packed
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
        decode_pool: DecodePool,
        limits: ImageLimits,
        max_message_bytes: int,
    ) -> None:
        """Create the state of a server.

        Args:
            repository: versions of models.
            models: their batchers.
            executor: threads for images.
            decode_pool: decodes image files.
            limits: limits of one request.
            max_message_bytes: maximum size of a reply.
        """
        self.repository = repository
        self.limits = limits
        self.reader = ImageReader(executor, decode_pool, limits, models.policy.max_queue_rows)
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
    """Converts the images of requests to arrays: raw pixels of the model's size on the event loop, others off it.

    Images that wait for a thread or a process are limited by the same rules as images that wait for a session.
    """

    def __init__(self, executor: Executor, decode_pool: DecodePool, limits: ImageLimits, max_queue_rows: int) -> None:
        """Create a reader.

        Args:
            executor: threads that resize images.
            decode_pool: decodes image files.
            limits: limits of one request.
            max_queue_rows: maximum number of images that wait to be decoded.
        """
        self._executor = executor
        self._decode_pool = decode_pool
        self._limits = limits
        self._admission = Admission(max_queue_rows, lambda: RETRY_AFTER)

    async def read(self, message: Images, spec: ImageSpec) -> ImageArray:
        """Return uint8 [images, height, width, channels] at the model's size.

        Raises:
            InvalidInputError: an image cannot be used; see `partedvae.serving.images`.
            OverloadedError: too many images wait.
        """
        if _is_view(message, spec):
            return from_packed(message.packed.data, message.packed.shape, spec, self._limits)
        if message.WhichOneof("source") == "encoded":
            return await self.read_files(message.encoded.items, spec, message.encoded.ByteSize())
        rows = count_images(message)
        self._admission.try_acquire(rows)
        with self._release(rows):
            return await self._resized(message, spec)

    async def read_files(self, files: Sequence[bytes], spec: ImageSpec, size: int) -> ImageArray:
        """Decode image files of `size` bytes together; result and errors are those of `read`."""
        self._admission.try_acquire(len(files))
        with self._release(len(files)):
            return await self._decode_pool.decode(await self._decode_pool.plan(files, spec, size))

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
        with self._release(rows, blocking=True):
            if message.WhichOneof("source") == "encoded":
                files = message.encoded
                plan = await self._decode_pool.plan(files.items, spec, files.ByteSize())
                return await self._decode_pool.decode_each(plan)
            return await self._resized(message, spec), []

    async def _resized(self, message: Images, spec: ImageSpec) -> ImageArray:
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: from_message(message, spec, self._limits)
        )

    @contextmanager
    def _release(self, rows: int, *, blocking: bool = False) -> Iterator[None]:
        try:
            yield
        finally:
            self._admission.release(rows, blocking=blocking)


def _is_view(message: Images, spec: ImageSpec) -> bool:
    """Report whether the images are pixels at the model's own size, which need no conversion and no copy."""
    if message.WhichOneof("source") != "packed" or len(message.packed.shape) > 4:
        return False
    return tuple(message.packed.shape[1:]) in ((spec.height, spec.width, spec.channels), (spec.height, spec.width))


def _image_bytes(model: OnnxModel) -> int:
    spec = model.manifest.image
    return spec.height * spec.width * spec.channels
