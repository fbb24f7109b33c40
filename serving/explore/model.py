"""The model of the pages, in this process or on a server: one asynchronous interface, and whether it answers."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, Protocol, TypeVar

from numpy.typing import ArrayLike

from partedvae.class_choices import ClassSpec
from partedvae.cli.connection import with_options
from partedvae.common.click_errors import message_of
from partedvae.errors import DeadlineError, PartedVAEError, UnavailableError
from partedvae.image_items import ImageInput
from partedvae.image_results import Generated, Transferred, Traversal
from partedvae.latents import LatentsOfU
from partedvae.model_results import ModelDetails
from partedvae.packing import RequestLimits
from partedvae.requests import DEFAULT_INCLUDE, Along, FeatureName
from partedvae.results import Features, ImageArray
from partedvae.serving.local import LocalModel

P = ParamSpec("P")
R = TypeVar("R")

_logger = logging.getLogger(__name__)
MIB = 2**20
LOCAL_LIMITS = RequestLimits(max_message_bytes=64 * MIB)
"""Limits of uploads where the model is in this process: those that `partedvae serve` has by default."""
THREADS = 2
"""Calls of a model in this process that run at a time; each uses all processors."""
WATCH_SECONDS, RETRY_SECONDS = 5.0, 1.0
"""Time between two questions to a server that answered, and to one that did not."""
ANSWER_SECONDS = 10.0
"""Time after which a server that does not answer such a question is said to be away."""


class AsyncModel(Protocol):
    """The methods of `partedvae.AsyncClient` that pages use; see there."""

    async def features(self, images: ImageInput, *, include: Iterable[FeatureName] = DEFAULT_INCLUDE) -> Features:
        """Return the features of each image."""

    async def classify(self, images: ImageInput, *, check_familiarity: bool = True) -> Features:
        """Return the class of each image by every factor."""

    async def generate(self, count: int = 1, *, classes: ClassSpec | None = None, seed: int | None = None) -> Generated:
        """Return new images."""

    async def reconstruct(self, images: ImageInput) -> ImageArray:
        """Return the reconstruction of each image."""

    async def decode(self, u: LatentsOfU, z: ArrayLike) -> ImageArray:
        """Return the image of each row of latents."""

    async def traverse(
        self,
        images: ImageInput | None = None,
        *,
        along: Along = "z",
        dimensions: Sequence[int] = (),
        factor: str = "",
        steps: int | None = None,
        reach: float | None = None,
        classes: ClassSpec | None = None,
        count: int | None = None,
        seed: int | None = None,
    ) -> Traversal:
        """Return images in which one latent dimension, or the class, changes along each row."""

    async def transfer(
        self,
        *,
        z_images: ImageInput | None = None,
        u_images: ImageInput | None = None,
        classes: Sequence[ClassSpec] | None = None,
        factors: Sequence[str] = (),
        pairs: bool = False,
    ) -> Transferred:
        """Return images that combine the u of some images with the z of others."""

    async def model_info(self) -> ModelDetails:
        """Return the model's manifest and where it runs."""

    async def close(self) -> None:
        """Free what the model holds."""


class AsyncLocalModel:
    """A `LocalModel` as coroutines; each call runs in a thread, so that the event loop is never blocked."""

    def __init__(self, model: LocalModel) -> None:
        """Wrap a loaded model."""
        self._model = model
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="model")

    async def features(self, images: ImageInput, *, include: Iterable[FeatureName] = DEFAULT_INCLUDE) -> Features:
        """Return the features of each image."""
        return await self._run(self._model.features, images, include=include)

    async def classify(self, images: ImageInput, *, check_familiarity: bool = True) -> Features:
        """Return the class of each image by every factor."""
        return await self._run(self._model.classify, images, check_familiarity=check_familiarity)

    async def generate(self, count: int = 1, *, classes: ClassSpec | None = None, seed: int | None = None) -> Generated:
        """Return new images."""
        return await self._run(self._model.generate, count, classes=classes, seed=seed)

    async def reconstruct(self, images: ImageInput) -> ImageArray:
        """Return the reconstruction of each image."""
        return await self._run(self._model.reconstruct, images)

    async def decode(self, u: LatentsOfU, z: ArrayLike) -> ImageArray:
        """Return the image of each row of latents."""
        return await self._run(self._model.decode, u, z)

    async def traverse(self, images: ImageInput | None = None, **arguments: Any) -> Traversal:
        """Return images in which one latent dimension, or the class, changes along each row."""
        return await self._run(self._model.traverse, images, **arguments)

    async def transfer(self, **arguments: Any) -> Transferred:
        """Return images that combine the u of some images with the z of others."""
        return await self._run(self._model.transfer, **arguments)

    async def model_info(self) -> ModelDetails:
        """Return the model's manifest and where it runs."""
        return self._model.info

    async def close(self) -> None:
        """Stop the threads; calls that wait are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, method: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        call = functools.partial(method, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class ModelAccess:
    """The model of the pages, and what is known of it.

    Attributes:
        call: the model, whose methods pages call.
        where: the folder, or the address of the server.
        details: its manifest, limits and device; None until it has answered once.
        problem: why it does not answer; empty where it does.
        failures: calls of pages that it has not answered so far.
    """

    def __init__(self, call: AsyncModel, where: str) -> None:
        """Prepare the access; nothing is called before `start`.

        Args:
            call: the model, whose methods pages call.
            where: the folder, or the address of the server, to be shown.
        """
        self.call = call
        self.where = where
        self.details: ModelDetails | None = None
        self.problem = ""
        self.failures = 0
        self._watcher: asyncio.Task[None] | None = None

    @property
    def limits(self) -> RequestLimits:
        """Limits of one request, which uploads keep to."""
        return (self.details and self.details.limits) or LOCAL_LIMITS

    async def start(self) -> None:
        """Ask for the details once, and go on asking in the background."""
        await self.ask()
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop asking, and close the connection."""
        if self._watcher is not None:
            self._watcher.cancel()
        await self.call.close()

    async def checked(self, call: Awaitable[R]) -> R:
        """Await a call of the model; a server that does not answer is then known to be away, until it answers again."""
        try:
            result = await call
        except (UnavailableError, DeadlineError) as error:
            self.problem = with_options(str(error))
            self.failures += 1
            raise
        self.problem = ""
        return result

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS if self.problem else WATCH_SECONDS)
            try:
                await self.ask()
            except Exception as error:
                # Of a cause that nobody foresaw: the pages would never learn that the model answers again.
                _logger.exception("asking %s for its model failed; asking again", self.where)
                self.problem = f"{self.where} could not be asked: {message_of(error)}"

    async def ask(self) -> ModelDetails | None:
        """Ask for the details that the model has now; None, with the reason in `problem`, if it does not answer."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self.details = await self.call.model_info()
        except TimeoutError:
            self.problem = f"the server at {self.where} does not answer"
        except (PartedVAEError, OSError) as error:
            self.problem = with_options(message_of(error))
        else:
            self.problem = ""
            return self.details
        return None
