"""The client for asyncio: `partedvae.client` with the same methods as coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Self

import grpc
import numpy as np

from partedvae import replies
from partedvae.async_transport import AsyncTransport
from partedvae.channel import DEFAULT_TIMEOUT, FileName, Token, channel_credentials
from partedvae.common import DEFAULT_ADDRESS
from partedvae.image_results import Generated, Transferred, Traversal
from partedvae.images import chunks
from partedvae.items import ImageInput
from partedvae.latent_requests import Along, ClassStyle, named_classes, transfer_request, traverse_request
from partedvae.names import DEFAULT_INCLUDE, FeatureName, feature_outputs
from partedvae.results import FeatureChunk, Features, ImageArray, ModelDetails, ModelInfo
from partedvae.streams import Exchange, OnProgress
from partedvae.v1 import service_pb2 as pb


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
        token: Token | None = None,
        tls: bool = False,
        ca: FileName | None = None,
        cert: FileName | None = None,
        key: FileName | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Prepare the connection; it is made at the first call. The arguments are those of `partedvae.Client`."""
        self.address = address
        self._selector = pb.ModelSelector(name=model, version=version)
        self._timeout = timeout
        self._token = token
        self._credentials = channel_credentials(tls=tls, ca=ca, cert=cert, key=key, credentials=credentials)

    # Made on first use, because a channel of grpc.aio belongs to the event loop that runs when it is made.
    @cached_property
    def _transport(self) -> AsyncTransport:
        return AsyncTransport(self.address, self._timeout, self._token, self._credentials)

    async def features(self, images: ImageInput, *, include: Iterable[FeatureName] = DEFAULT_INCLUDE) -> Features:
        """Return the features of each image, in order; see `Client.features`."""
        outputs = feature_outputs(include)
        requests = (
            (chunk, pb.ExtractFeaturesRequest(model=self._selector, images=chunk.images, include=outputs))
            for chunk in chunks(images)
        )
        each = self._transport.each(self._transport.stub.ExtractFeatures, requests)
        return replies.joined([replies.features(reply) async for reply in each])

    def stream_features(
        self,
        images: ImageInput,
        *,
        include: Iterable[FeatureName] = DEFAULT_INCLUDE,
        on_progress: OnProgress | None = None,
    ) -> AsyncIterator[FeatureChunk]:
        """Yield the features of any number of images, a chunk at a time and in order; see `Client.stream_features`."""
        return self._transport.stream(Exchange(self._selector, images, include, on_progress))

    async def classify(self, images: ImageInput) -> Features:
        """Return the class of each image by every factor; see `Client.classify`."""
        requests = ((chunk, pb.ClassifyRequest(model=self._selector, images=chunk.images)) for chunk in chunks(images))
        each = self._transport.each(self._transport.stub.Classify, requests)
        return replies.joined([replies.classified(reply) async for reply in each])

    async def generate(
        self, count: int = 1, *, classes: ClassStyle | None = None, seed: int | None = None
    ) -> Generated:
        """Return new images; see `Client.generate`."""
        named = await self._named([classes] if classes else [])
        request = pb.GenerateRequest(model=self._selector, count=count, classes=named[0] if named else {}, seed=seed)
        return replies.generated(await self._transport.call(self._transport.stub.Generate, request))

    async def reconstruct(self, images: ImageInput) -> ImageArray:
        """Return each image as the model sees it; see `Client.reconstruct`."""
        requests = (
            (chunk, pb.ReconstructRequest(model=self._selector, images=chunk.images)) for chunk in chunks(images)
        )
        each = self._transport.each(self._transport.stub.Reconstruct, requests)
        return np.concatenate([replies.images(reply.images) async for reply in each])

    async def traverse(
        self,
        images: ImageInput | None = None,
        *,
        along: Along = "z",
        dimensions: Sequence[int] = (),
        factor: str = "",
        steps: int | None = None,
        reach: float | None = None,
        classes: ClassStyle | None = None,
        count: int | None = None,
        seed: int | None = None,
    ) -> Traversal:
        """Return images in which one latent dimension, or the class, changes along a row; see `Client.traverse`."""
        named = await self._named([classes] if classes else [])
        request = traverse_request(
            self._selector,
            images,
            along=along,
            dimensions=dimensions,
            factor=factor,
            steps=steps,
            reach=reach,
            classes=named[0] if named else None,
            count=count,
            seed=seed,
        )
        return replies.traversed(await self._transport.call(self._transport.stub.Traverse, request))

    async def transfer(
        self,
        content: ImageInput,
        style: ImageInput | None = None,
        *,
        classes: Sequence[ClassStyle] | None = None,
        factors: Sequence[str] = (),
        pairs: bool = False,
    ) -> Transferred:
        """Return images that join the z of some with the class-related u of others; see `Client.transfer`."""
        named = None if classes is None else await self._named(classes)
        request = transfer_request(self._selector, content, style, classes=named, factors=factors, pairs=pairs)
        return replies.transferred(await self._transport.call(self._transport.stub.TransferAttributes, request))

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return all versions of all models of the server, by name and version."""
        request = pb.ListModelsRequest()
        return replies.model_infos(await self._transport.call(self._transport.stub.ListModels, request))

    async def model_info(self, model: str | None = None, version: int | None = None) -> ModelDetails:
        """Return a model's manifest and where it runs; without arguments, the model of this client."""
        selector = pb.ModelSelector(
            name=self._selector.name if model is None else model,
            version=self._selector.version if version is None else version,
        )
        request = pb.GetModelRequest(model=selector)
        return replies.model_details(await self._transport.call(self._transport.stub.GetModel, request))

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _named(self, classes: Sequence[ClassStyle]) -> list[Mapping[str, str]]:
        """Turn classes into {factor: class}; asks the server for the names where one is not told with its factor."""
        manifest = (await self.model_info()).manifest if any(isinstance(c, str) for c in classes) else None
        return [named_classes(c, manifest) for c in classes]
