"""The client for programs that call and wait; `partedvae.aio` has its twin for asyncio."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Self, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message

from partedvae import replies
from partedvae.errors import from_rpc
from partedvae.names import FeatureName, class_by_factor, feature_outputs
from partedvae.requests import Chunk, ImageInput, chunks
from partedvae.results import Features, Generated, ImageArray, ModelDetails, ModelInfo
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 60.0
DEFAULT_INCLUDE: tuple[FeatureName, ...] = ("probs", "u_mean")
"""The class-related part."""
IN_FLIGHT = 4
"""Chunks of one call that are under way at a time: enough to keep the server busy while the next is made."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


class Client:
    """A connection to a PartedVAE server; use it in a `with` block, from as many threads as you like.

    Every method raises `partedvae.UnavailableError` when no server answers, `DeadlineError` when it does not in time,
    `NotFoundError` for an unknown model, `InvalidRequestError` for images or classes that cannot be used, and
    `OverloadedError` when the server has too much to do; all are `PartedVAEError`. A file that cannot be read is an
    `OSError`.

    Example:
        >>> with Client("127.0.0.1:50051") as client:  # doctest: +SKIP
        ...     features = client.features(["a.png", "b.png"])
        ...     features.u.shape, features.classes
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        model: str = "",
        version: int = 0,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> None:
        """Prepare the connection; it is made at the first call.

        Args:
            address: HOST:PORT of the server.
            model: name of the model; may be empty where the server has only one.
            version: version of the model, 0 for the newest.
            timeout: seconds for each message; None waits for ever.
        """
        self.address = address
        self._selector = pb.ModelSelector(name=model, version=version)
        self._timeout = timeout
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = PartedVAEServiceStub(self._channel)

    def features(self, images: ImageInput, *, include: Iterable[FeatureName] = DEFAULT_INCLUDE) -> Features:
        """Return the features of each image, in order.

        Args:
            images: a uint8 array [count, height, width] or [count, height, width, channels], a path, a file's bytes,
                a PIL image, or a list of those; any number, any size, grey or RGB.
            include: what to return, of "probs", "u_mean", "u_logvar", "z_mean", "z_logvar".
        """
        outputs = feature_outputs(include)
        requests = (
            (chunk, pb.ExtractFeaturesRequest(model=self._selector, images=chunk.images, include=outputs))
            for chunk in chunks(images)
        )
        parts = [replies.features(reply) for reply in self._each(self._stub.ExtractFeatures, requests)]
        return replies.joined(parts)

    def classify(self, images: ImageInput) -> Features:
        """Return the class of each image by every factor: features with `probs` alone, hence `classes`.

        Args:
            images: as for `features`.
        """
        requests = ((chunk, pb.ClassifyRequest(model=self._selector, images=chunk.images)) for chunk in chunks(images))
        parts = [replies.classified(reply) for reply in self._each(self._stub.Classify, requests)]
        return replies.joined(parts)

    def generate(
        self, count: int = 1, *, classes: Mapping[str, str] | str | None = None, seed: int | None = None
    ) -> Generated:
        """Return new images.

        Args:
            count: how many.
            classes: class name by factor name, or one class as "NAME" or "factor=NAME". Factors that are not named
                are drawn from their prior p(c).
            seed: the same seed gives the same images; None lets the server draw one, and the result tells it.
        """
        if isinstance(classes, str):
            classes = class_by_factor(self.model_info().manifest, classes)
        request = pb.GenerateRequest(model=self._selector, count=count, classes=classes, seed=seed)
        return replies.generated(self._call(self._stub.Generate, request))

    def reconstruct(self, images: ImageInput) -> ImageArray:
        """Return each image as the model sees it: uint8 [count, height, width, channels] at the model's size.

        Args:
            images: as for `features`.
        """
        requests = (
            (chunk, pb.ReconstructRequest(model=self._selector, images=chunk.images)) for chunk in chunks(images)
        )
        return np.concatenate([replies.images(r.images) for r in self._each(self._stub.Reconstruct, requests)])

    def models(self) -> tuple[ModelInfo, ...]:
        """Return all versions of all models of the server, by name and version."""
        return replies.model_infos(self._call(self._stub.ListModels, pb.ListModelsRequest()))

    def model_info(self, model: str | None = None, version: int | None = None) -> ModelDetails:
        """Return a model's manifest and where it runs; without arguments, the model of this client."""
        selector = pb.ModelSelector(
            name=self._selector.name if model is None else model,
            version=self._selector.version if version is None else version,
        )
        return replies.model_details(self._call(self._stub.GetModel, pb.GetModelRequest(model=selector)))

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _call(self, rpc: grpc.UnaryUnaryMultiCallable[Request, Reply], request: Request) -> Reply:
        try:
            return rpc(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise from_rpc(error, self.address) from error

    def _each(
        self, rpc: grpc.UnaryUnaryMultiCallable[Request, Reply], requests: Iterator[tuple[Chunk, Request]]
    ) -> Iterator[Reply]:
        """Send the chunks of one call, a few at a time; yield the replies in order."""
        under_way: deque[tuple[Chunk, grpc.Future[Reply]]] = deque()
        try:
            for chunk, request in requests:
                under_way.append((chunk, rpc.future(request, timeout=self._timeout)))
                if len(under_way) == IN_FLIGHT:
                    yield self._reply(*under_way.popleft())
            while under_way:
                yield self._reply(*under_way.popleft())
        finally:
            for _, call in under_way:
                call.cancel()

    def _reply(self, chunk: Chunk, call: grpc.Future[Reply]) -> Reply:
        try:
            return call.result()
        except grpc.RpcError as error:
            raise from_rpc(error, self.address, chunk.locate) from error
