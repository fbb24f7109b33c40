"""Loads versions that calls name, without blocking the event loop: one at a time, and few may wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from partedvae.serving.errors import TooManyLoadsError
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.repository.versions import Version

T = TypeVar("T")

MAX_LOADS = 4
"""Versions that may be loading or waiting for it."""
MAX_WAIT_SECONDS = 30.0
"""How long a stream waits: it keeps its place among the calls meanwhile."""
RETRY_AFTER = 1.0
"""Retry delay in seconds when more versions wait: loading times differ too much to estimate it."""


class ModelLoader:
    """Loads older versions of models. Use it from the event loop."""

    def __init__(self, repository: ModelRepository) -> None:
        """Create a loader for the versions of a repository."""
        self._repository = repository
        self._loads: dict[Version, asyncio.Task[OnnxModel]] = {}
        self._turn = asyncio.Lock()

    async def load(self, name: str, version: int, *, blocking: bool = False) -> OnnxModel:
        """Load a version; calls that name the same one share a load, which goes on when they are cancelled.

        Args:
            name: the model's name; errors are those of `ModelRepository.get`.
            version: its version.
            blocking: whether to wait until the version may be loaded, as streams do, at most `MAX_WAIT_SECONDS`.

        Raises:
            TooManyLoadsError: the version may not be loaded now.
        """
        end = time.monotonic() + (MAX_WAIT_SECONDS if blocking else 0.0)
        while True:
            try:
                return await asyncio.shield(self._task(name, version))
            except TooManyLoadsError as error:
                if time.monotonic() >= end:
                    raise
                await asyncio.sleep(error.retry_after)

    def _task(self, name: str, version: int) -> asyncio.Task[OnnxModel]:
        found = self._repository.find(name, version)
        task = self._loads.get(found)
        if task is None:
            if len(self._loads) >= MAX_LOADS:
                raise TooManyLoadsError(f"{MAX_LOADS} versions of models are waiting to be loaded", RETRY_AFTER)
            self._repository.reserve(found)
            task = self._loads[found] = asyncio.create_task(self._load(found))
            task.add_done_callback(lambda done: self._done(found, done))
        return task

    async def _load(self, version: Version) -> OnnxModel:
        async with self._turn:
            return await _in_daemon_thread(lambda: self._repository.get(version.name, version.number))

    def _done(self, version: Version, task: asyncio.Task[OnnxModel]) -> None:
        del self._loads[version]
        if not task.cancelled():
            task.exception()  # Otherwise it would be logged as not retrieved where all callers have gone.


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread that does not delay the end of the process, as that of an executor would."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(set_outcome: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # The loop was closed meanwhile.
            loop.call_soon_threadsafe(lambda: None if future.done() else set_outcome())

    def run() -> None:
        try:
            result = work()
        except Exception as error:
            failure = error
            deliver(lambda: future.set_exception(failure))
        else:
            deliver(lambda: future.set_result(result))

    threading.Thread(target=run, name="partedvae-loader", daemon=True).start()
    return await future
