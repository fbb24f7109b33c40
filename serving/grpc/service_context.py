"""What both services answer with: models behind batches, the reader of images, threads, the limit of a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from partedvae.serving.batching.model import BatchedModel, BatchedModels
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.grpc.image_reader import ImageReader
from partedvae.serving.images import ImageLimits
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository.repository import ModelRepository

T = TypeVar("T")


class Backend:
    """One for all services of a server, so that they share queues and limits. Belongs to the event loop."""

    def __init__(
        self,
        repository: ModelRepository,
        models: BatchedModels,
        executor: Executor,
        limits: ImageLimits,
        max_message_bytes: int,
    ) -> None:
        """Take the models, their batchers, threads for files and loading, and the limits of one request."""
        self.repository = repository
        self.limits = limits
        self.reader = ImageReader(executor, limits, models.policy.max_queue_rows)
        self._models = models
        self._executor = executor
        self._max_message_bytes = max_message_bytes

    async def model(self, name: str, version: int, *, blocking: bool = False) -> BatchedModel:
        """Return a model for one call; one that is not loaded is loaded in a thread.

        Args:
            name: the model's name; errors are those of `ModelRepository.get`.
            version: its version; 0 is the newest.
            blocking: whether the call waits for capacity; see `BatchedModels.of`.
        """
        runtime = self.repository.loaded(name, version)
        if runtime is None:
            runtime = await self.in_thread(lambda: self.repository.get(name, version))
        return self._models.of(runtime, blocking=blocking)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what would hold the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def max_reply(self, runtime: OnnxModel) -> int:
        """Return how many images one reply may have."""
        return min(self.limits.max_images, self._max_message_bytes // _image_bytes(runtime))

    def check_reply(self, runtime: OnnxModel, count: int) -> None:
        """Refuse to make images that would not fit into one message.

        Raises:
            InvalidInputError: they would not.
        """
        each = _image_bytes(runtime)
        if count * each > self._max_message_bytes:
            raise InvalidInputError(
                f"{count} images of {each:,} bytes are above the limit of {self._max_message_bytes:,} bytes a message: "
                f"ask for at most {self._max_message_bytes // each} at a time"
            )


def _image_bytes(runtime: OnnxModel) -> int:
    spec = runtime.manifest.image
    return spec.height * spec.width * spec.channels
