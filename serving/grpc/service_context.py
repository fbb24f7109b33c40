"""State shared by both gRPC services: batched models, image decoding, thread pool, reply size limit."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from partedvae.common.image_structure.structure import BYTES_PER_PIXEL
from partedvae.results import ImageArray
from partedvae.serving.batching.admission import Admission
from partedvae.serving.batching.model import BatchedModel, BatchedModels
from partedvae.serving.config.serve_config import FrontName
from partedvae.serving.decoding.pool import DecodePool
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.grpc.method import request_size
from partedvae.serving.grpc.model_loader import ModelLoader
from partedvae.serving.images import ImageLimits, check_packed, from_array
from partedvae.serving.inline_task import on_event_loop
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.request_memory import request_memory
from partedvae.v1.manifest_pb2 import ImageSpec, Manifest
from partedvae.v1.tensors_pb2 import Images

T = TypeVar("T")

FEATURE_COPIES = 4
"""Copies of features that are held at once: of the batch, of the request, in the message, and serialized."""
RETRY_AFTER = 1.0
"""Retry delay in seconds when too many image files wait for a thread: decoding times differ too much to estimate it."""


class ServiceContext:
    """One instance for all services of a server, so that they share queues and limits.

    Its coroutines run on the event loop, or inline in any thread as far as they can.
    """

    def __init__(
        self,
        repository: ModelRepository,
        models: BatchedModels,
        executor: Executor,
        decode_pool: DecodePool,
        limits: ImageLimits,
        max_message_bytes: int,
        front: FrontName = "grpcio",
    ) -> None:
        """Create the state of a server.

        Args:
            repository: versions of models.
            models: their batchers.
            executor: threads for images.
            decode_pool: decodes image files.
            limits: limits of one request.
            max_message_bytes: maximum size of a reply.
            front: what receives the calls.
        """
        self.front = front
        """What receives the calls."""
        self.repository = repository
        self.limits = limits
        """Limits of one request."""
        self.reader = ImageReader(executor, decode_pool, limits, models.policy.max_queue_rows)
        """Converts the images of requests."""
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
            await on_event_loop()
            model = await self._loader.load(name, version, blocking=blocking)
        return self._models.of(model, blocking=blocking)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work in the thread pool and return its result."""
        await on_event_loop()
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def reserve_features(self, model: ReadableModel, count: int) -> None:
        """Reserve the memory of the features of images that `reader` has not converted.

        Raises:
            OverloadedError: other requests hold too much memory.
        """
        request_memory.get().reserve(count * FEATURE_COPIES * model.feature_bytes)

    def max_reply(self, model: OnnxModel) -> int:
        """Return the maximum number of images in one reply."""
        return min(self.limits.max_images, self.max_message_bytes // model.image_bytes)

    def check_reply(self, model: OnnxModel, count: int) -> None:
        """Check that a number of images fits into one reply.

        Raises:
            InvalidInputError: it does not.
        """
        each = model.image_bytes
        if count * each > self.max_message_bytes:
            raise InvalidInputError(
                f"{count} images of {each:,} bytes are above the limit of {self.max_message_bytes:,} bytes per "
                f"message; request at most {self.max_message_bytes // each} images per call"
            )


class ReadableModel(Protocol):
    """What the images of a request are converted for: `partedvae.serving.batching.model.BatchedModel`."""

    @property
    def manifest(self) -> Manifest:
        """Has the size of the model's images."""

    @property
    def feature_bytes(self) -> int:
        """Bytes of everything that can be computed of one image."""


class ImageReader:
    """Converts the images of requests to arrays: raw pixels of the model's size on the event loop, others off it.

    Images that wait for a thread or a process are limited by the same rules as images that wait for a session. The
    memory of images and features is reserved until the reply has gone, that of decoding until the images are decoded.
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

    async def read(self, message: Images, model: ReadableModel) -> ImageArray:
        """Return uint8 [images, height, width, channels] at the model's size.

        Raises:
            InvalidInputError: an image cannot be used; see `partedvae.serving.images`.
            OverloadedError: too many images wait, or other requests hold too much memory.
        """
        if message.WhichOneof("source") == "encoded":
            return await self.read_files(message.encoded.items, model, request_size())
        if message.WhichOneof("source") is None:
            raise InvalidInputError("no images: set images.packed or images.encoded")
        return await self.read_pixels(message.packed.data, message.packed.shape, model)

    async def read_pixels(self, data: bytes, shape: Sequence[int], model: ReadableModel) -> ImageArray:
        """Return raw pixels at the model's size; result and errors are those of `read`.

        Args:
            data: the pixels, uint8 in C order.
            shape: images, height, width, and where it is not 1, channels.
            model: the model.
        """
        pixels = self._pixels(data, shape, model)
        memory = request_memory.get()
        if not pixels.waiting:
            memory.reserve(pixels.memory)
            return pixels.array
        self._admission.try_acquire(pixels.waiting)
        with self._release(pixels.waiting):
            memory.reserve(pixels.memory)
            return await self._converted(pixels, model.manifest.image)

    async def read_files(self, files: Sequence[bytes], model: ReadableModel, size: int) -> ImageArray:
        """Decode image files of at most `size` bytes together; result and errors are those of `read`."""
        await on_event_loop()
        self._admission.try_acquire(len(files))
        with self._release(len(files)):
            plan = await self._decode_pool.plan(files, model.manifest.image, size)
            memory = request_memory.get()
            memory.reserve(plan.memory + len(files) * FEATURE_COPIES * model.feature_bytes)
            images = await self._decode_pool.decode(plan)
            memory.give_back(plan.memory - images.nbytes)
            return images

    async def read_each(self, message: Images, model: ReadableModel) -> tuple[ImageArray, list[ImageError]]:
        """Return the images that can be used, possibly none, and an error for each file that cannot.

        Waits for capacity instead of raising OverloadedError.

        Raises:
            InvalidInputError: the message as a whole cannot be used.
        """
        memory = request_memory.get()
        if message.WhichOneof("source") != "encoded":
            if message.WhichOneof("source") is None:
                raise InvalidInputError("no images: set images.packed or images.encoded")
            pixels = self._pixels(message.packed.data, message.packed.shape, model)
            if not pixels.waiting:
                await memory.wait(pixels.memory)
                return pixels.array, []
            await self._admission.acquire(pixels.waiting)
            with self._release(pixels.waiting, blocking=True):
                await memory.wait(pixels.memory)
                return await self._converted(pixels, model.manifest.image), []
        files = message.encoded
        await self._admission.acquire(len(files.items))
        with self._release(len(files.items), blocking=True):
            plan = await self._decode_pool.plan(files.items, model.manifest.image, request_size())
            await memory.wait(plan.memory + len(files.items) * FEATURE_COPIES * model.feature_bytes)
            images, errors = await self._decode_pool.decode_each(plan)
            memory.give_back(plan.memory - images.nbytes)
            return images, errors

    def _pixels(self, data: bytes, dims: Sequence[int], model: ReadableModel) -> _Pixels:
        """Check raw pixels, and return what converting them takes."""
        spec = model.manifest.image
        shape = check_packed(len(data), dims, self._limits)
        array = np.frombuffer(data, dtype=np.uint8).reshape(shape)
        count, size = shape[0], (spec.height, spec.width, spec.channels)
        features = count * FEATURE_COPIES * model.feature_bytes
        if shape[1:] == size or (shape[1:] == size[:2] and spec.channels == 1):
            return _Pixels(array.reshape(count, *size), 0, features)
        batch = count * math.prod(size)
        return _Pixels(array, count, features + batch + BYTES_PER_PIXEL * math.prod(shape[1:3]))

    async def _converted(self, pixels: _Pixels, spec: ImageSpec) -> ImageArray:
        await on_event_loop()
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: from_array(pixels.array, spec))

    @contextmanager
    def _release(self, rows: int, *, blocking: bool = False) -> Iterator[None]:
        try:
            yield
        finally:
            self._admission.release(rows, blocking=blocking)


class _Pixels(NamedTuple):
    """Raw pixels of a request, and what converting them takes."""

    array: ImageArray
    """A view of the request."""
    waiting: int
    """Images that wait for a thread; none if they have the model's size, which needs no conversion and no copy."""
    memory: int
    """Bytes of the images and their features."""
