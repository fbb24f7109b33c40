"""The client for asyncio: `partedvae.client` with the same methods as coroutines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import Message

from partedvae import replies
from partedvae.client import CHANNEL_OPTIONS, DEFAULT_ADDRESS, DEFAULT_INCLUDE, DEFAULT_TIMEOUT, IN_FLIGHT
from partedvae.errors import from_rpc
from partedvae.names import FeatureName, class_by_factor, feature_outputs
from partedvae.requests import Chunk, ImageInput, chunks
from partedvae.results import Features, Generated, ImageArray, ModelDetails, ModelInfo
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub

if TYPE_CHECKING:
    from partedvae.v1.service_pb2_grpc import PartedVAEServiceAsyncStub

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


class AsyncClient:
    """A connection to a PartedVAE server for one event loop; use it in an `async with` block.

    Arguments, results and errors are those of `partedvae.Client`. Files are read in a thread beside the event loop.

    Example:
        >>> async with AsyncClient("127.0.0.1:50051") as client:  # doctest: +SKIP
        ...     features = await client.features(["a.png", "b.png"])
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        model: str = "",
        version: int = 0,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> None:
        """Prepare the connection; it is made at the first call. The arguments are those of `partedvae.Client`."""
        self.address = address
        self._selector = pb.ModelSelector(name=model, version=version)
        self._timeout = timeout

    # Made on first use, because a channel of grpc.aio belongs to the event loop that runs when it is made.
    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)

    @cached_property
    def _stub(self) -> PartedVAEServiceAsyncStub:
        return PartedVAEServiceStub(self._channel)

    async def features(self, images: ImageInput, *, include: Iterable[FeatureName] = DEFAULT_INCLUDE) -> Features:
        """Return the features of each image, in order; see `Client.features`."""
        outputs = feature_outputs(include)
        requests = (
            (chunk, pb.ExtractFeaturesRequest(model=self._selector, images=chunk.images, include=outputs))
            for chunk in chunks(images)
        )
        return replies.joined([replies.features(r) async for r in self._each(self._stub.ExtractFeatures, requests)])

    async def classify(self, images: ImageInput) -> Features:
        """Return the class of each image by every factor; see `Client.classify`."""
        requests = ((chunk, pb.ClassifyRequest(model=self._selector, images=chunk.images)) for chunk in chunks(images))
        return replies.joined([replies.classified(r) async for r in self._each(self._stub.Classify, requests)])

    async def generate(
        self, count: int = 1, *, classes: Mapping[str, str] | str | None = None, seed: int | None = None
    ) -> Generated:
        """Return new images; see `Client.generate`."""
        if isinstance(classes, str):
            classes = class_by_factor((await self.model_info()).manifest, classes)
        request = pb.GenerateRequest(model=self._selector, count=count, classes=classes, seed=seed)
        return replies.generated(await self._call(self._stub.Generate, request))

    async def reconstruct(self, images: ImageInput) -> ImageArray:
        """Return each image as the model sees it; see `Client.reconstruct`."""
        requests = (
            (chunk, pb.ReconstructRequest(model=self._selector, images=chunk.images)) for chunk in chunks(images)
        )
        return np.concatenate([replies.images(r.images) async for r in self._each(self._stub.Reconstruct, requests)])

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return all versions of all models of the server, by name and version."""
        return replies.model_infos(await self._call(self._stub.ListModels, pb.ListModelsRequest()))

    async def model_info(self, model: str | None = None, version: int | None = None) -> ModelDetails:
        """Return a model's manifest and where it runs; without arguments, the model of this client."""
        selector = pb.ModelSelector(
            name=self._selector.name if model is None else model,
            version=self._selector.version if version is None else version,
        )
        return replies.model_details(await self._call(self._stub.GetModel, pb.GetModelRequest(model=selector)))

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _call(self, rpc: grpc.aio.UnaryUnaryMultiCallable[Request, Reply], request: Request) -> Reply:
        try:
            return await rpc(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise from_rpc(error, self.address) from error

    async def _each(
        self, rpc: grpc.aio.UnaryUnaryMultiCallable[Request, Reply], requests: Iterator[tuple[Chunk, Request]]
    ) -> AsyncIterator[Reply]:
        """Send the chunks of one call, a few at a time; yield the replies in order."""
        under_way: deque[tuple[Chunk, grpc.aio.UnaryUnaryCall[Request, Reply]]] = deque()
        try:
            while (item := await asyncio.to_thread(next, requests, None)) is not None:
                chunk, request = item
                under_way.append((chunk, rpc(request, timeout=self._timeout)))
                if len(under_way) == IN_FLIGHT:
                    yield await self._reply(*under_way.popleft())
            while under_way:
                yield await self._reply(*under_way.popleft())
        finally:
            for _, call in under_way:
                call.cancel()

    async def _reply(self, chunk: Chunk, call: grpc.aio.UnaryUnaryCall[Request, Reply]) -> Reply:
        try:
            return await call
        except grpc.RpcError as error:
            raise from_rpc(error, self.address, chunk.locate) from error
