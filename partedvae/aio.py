"""The client for asyncio. `partedvae/client.py` is generated from this file: run 'make client' after changes."""

from __future__ import annotations

import copy
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Self

import grpc
import numpy as np
from numpy.typing import ArrayLike

from partedvae.async_transport import AsyncTransport
from partedvae.channel import FileName, Token
from partedvae.class_choices import ClassSpec, class_by_factor, class_rows
from partedvae.common import DEFAULT_ADDRESS, DEFAULT_TIMEOUT
from partedvae.connection import ConnectionSettings
from partedvae.familiarity import warn_if_unfamiliar
from partedvae.image_calls import classify_call, features_call, reconstruct_call
from partedvae.image_chunks import locator
from partedvae.image_items import ImageInput
from partedvae.image_results import Generated, Transferred, Traversal, read_images
from partedvae.latents import LatentsOfU, decode_requests, latent_rows
from partedvae.model_results import ModelDetails, ModelInfo
from partedvae.requests import (
    DEFAULT_INCLUDE,
    Along,
    FeatureName,
    generate_request,
    model_selector,
    transfer_request,
    traversal_bases,
    traverse_request,
)
from partedvae.results import FeatureChunk, Features, ImageArray, concatenate
from partedvae.streams import FeatureStream, OnProgress
from partedvae.v1 import service_pb2 as pb

DETAILS_SECONDS = 60.0
"""How long the client uses what it knows of the server's limits and the model before it asks again."""


class AsyncClient:
    """A connection to a PartedVAE server for one event loop; use it in an `async with` block.

    Image files are read in a thread, so that they do not block the event loop.

    The first call with images asks the server for its limits. Images are grouped into messages by them, and those that
    are far larger than the model's are shrunk before they are sent, by the code of the server and hence to the same
    pixels. This needs Pillow: `pip install 'partedvae[images]'`.

    Every method raises `partedvae.UnavailableError` when no server answers, `DeadlineError` when it does not in time,
    `NotFoundError` for an unknown model, `InvalidRequestError` for invalid images or classes, `AuthenticationError` for
    a missing or wrong token, `ModelError` for a model that cannot answer, and `OverloadedError` when the server is
    overloaded; all are `PartedVAEError`. A file that cannot be read is an `OSError`. Calls that a server refuses
    because it is overloaded or shutting down are made again within their `timeout`, after the time that the server
    names and a random one; the error of the last attempt has how long was waited.

    Example:
        >>> async with AsyncClient("127.0.0.1:50051") as client:  # doctest: +SKIP
        ...     features = await client.features(["a.png", "b.png"])
        >>> features.u.shape, features.classes  # doctest: +SKIP
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
        connections: int = 1,
        coalesce: bool | float = False,
    ) -> None:
        """Prepare the connection; it is made at the first call.

        Args:
            address: HOST:PORT of the server, or another name that gRPC resolves. Where it resolves to several servers,
                calls take turns among those that are healthy.
            model: name of the model; may be empty where the server has only one.
            version: version of the model; 0 is the newest that works.
            timeout: seconds per message; None waits without limit.
            token: a bearer token, the path (not a str) of a file with the token in its first line, or a function that
                returns it. The file is read, or the function called, at each call. Send tokens over TLS only, or to
                this machine.
            tls: encrypt, and trust gRPC's default authorities.
            ca: PEM file of the authorities to trust instead; implies `tls`.
            cert: PEM file of this client's certificate, for servers that require one; implies `tls`.
            key: PEM file of its private key.
            credentials: gRPC's own, instead of `tls`, `ca`, `cert` and `key`.
            connections: number of connections per server, among which calls take turns. The workers of `serve
                --workers` get calls by connection: with one connection, this client uses one worker.
            coalesce: join concurrent calls of `features`, `classify` or `reconstruct` with few images each into one
                message, for a program with many callers. True sends waiting calls as soon as earlier ones are answered;
                a number is the milliseconds for which each waits for others. Every call gets its own result or error,
                and has its own timeout.

        Raises:
            InvalidRequestError: an argument has another type or is out of range, or arguments exclude each other.
            OSError: a file of `ca`, `cert` or `key` cannot be read.
        """
        self.address = address
        self._selector = model_selector(model, version)
        self._transport = AsyncTransport(
            ConnectionSettings(
                address=address,
                timeout=timeout,
                token=token,
                tls=tls,
                ca=ca,
                cert=cert,
                key=key,
                credentials=credentials,
                connections=connections,
                coalesce=coalesce,
            )
        )
        self._known: tuple[float, ModelDetails] | None = None

    def __copy__(self) -> Self:
        """Return a client with the same arguments and a connection of its own, as pickling does."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._transport = copy.copy(self._transport)
        return made

    async def features(self, images: ImageInput, *, include: Iterable[FeatureName] = DEFAULT_INCLUDE) -> Features:
        """Return the features of each image, in order.

        Args:
            images: a uint8 array [count, height, width] or [count, height, width, channels], a path, the content of a
                file as bytes, a Pillow image, or a list of those; any number, any size, grey or RGB.
            include: outputs to return: "probs", "u_mean", "u_logvar", "z_mean", "z_logvar", and, where
                `model_info().has_scores`, "reconstruction_error" and "negative_elbo"; and "unfamiliar" where
                `model_info().has_familiarity`. The last two also give an `UnfamiliarImageWarning` for images unlike
                the training images.
        """
        call = features_call(self._selector, include)
        details = await self._details()
        features = concatenate(await self._transport.results(call, images, details.packing))
        warn_if_unfamiliar(details.unfamiliar(features))
        return features

    def stream_features(
        self,
        images: ImageInput,
        *,
        include: Iterable[FeatureName] = DEFAULT_INCLUDE,
        on_progress: OnProgress | None = None,
    ) -> AsyncIterator[FeatureChunk]:
        """Yield the features of any number of images in chunks, in order, with only a few chunks in memory.

        Under load the server delays a stream where it would refuse `features`. An image that cannot be read or decoded
        is a problem of its chunk, not an error. All chunks come from one version of the model.

        Args:
            images: as for `features`; an iterator is read as fast as the server accepts its images.
            include: as for `features`.
            on_progress: called after each chunk with the number of images that are done and the total, None where the
                total is not known in advance.

        Raises:
            DeadlineError: a chunk that was sent got no response within `timeout` seconds.
            UnavailableError: an interrupted stream could not be opened again within `timeout` seconds.
        """
        return self._stream(FeatureStream(self._selector, images, include, on_progress))

    async def classify(self, images: ImageInput, *, check_familiarity: bool = True) -> Features:
        """Return the class of each image by every factor: features with `probs`, hence `classes`, and `unfamiliar`.

        Args:
            images: as for `features`.
            check_familiarity: give an `UnfamiliarImageWarning` for images unlike the training images, where
                `model_info().has_familiarity`. The server then also computes their scores.
        """
        details = await self._details()
        call = classify_call(self._selector, check_familiarity=check_familiarity and details.has_familiarity)
        features = concatenate(await self._transport.results(call, images, details.packing))
        warn_if_unfamiliar(features.unfamiliar)
        return features

    async def generate(self, count: int = 1, *, classes: ClassSpec | None = None, seed: int | None = None) -> Generated:
        """Return new images.

        Args:
            count: number of images.
            classes: class name by factor name; one class as "NAME" or "factor=NAME"; or a list of those, each of
                another factor: {"shape": "heart", "colour": "red"} and ["heart", "red"] are red hearts. Factors that
                are not named are drawn from their prior p(c).
            seed: the same seed gives the same images; None draws one on the server, which the result reports.
        """
        chosen = await self._class_choices([{} if classes is None else classes])
        request = generate_request(self._selector, count, classes=chosen[0], seed=seed)
        return Generated.from_response(await self._transport.call(lambda stub: stub.Generate, request))

    async def reconstruct(self, images: ImageInput) -> ImageArray:
        """Return the reconstruction of each image: uint8 [count, height, width, channels] at the model's size.

        Args:
            images: as for `features`.
        """
        packing = (await self._details()).packing.with_replies_of_images()
        return np.concatenate(await self._transport.results(reconstruct_call(self._selector), images, packing))

    async def decode(self, u: LatentsOfU, z: ArrayLike) -> ImageArray:
        """Return the image of each row of latents: uint8 [images, height, width, channels] at the model's size.

        Args:
            u: class-related latents [images, sum of u_dim], as `Features.u`: those of every factor side by side in the
                model's order; or {factor: [images, u_dim]} with every factor. Numbers of one image may be [u_dim].
            z: class-independent latents [images, z_dim], as `Features.z`; those of one image may be [z_dim].
        """
        details = await self._details()
        requests = decode_requests(self._selector, *latent_rows(u, z, details.manifest), details)
        responses = self._transport.map_requests(lambda stub: stub.Decode, requests)
        return np.concatenate([read_images(response.images) async for response in responses])

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
        """Return images in which one latent dimension, or the class, changes along each row (Figures 4 and 9).

        Args:
            images: the bases, as for `features` but in one message; what is not traversed stays as in them. None draws
                bases from the priors.
            along: "z" for dimensions of z around 0, "u" for dimensions of a factor's u around the mode of the base's
                class, "classes" for the classes of a factor.
            dimensions: the dimensions to traverse, counted from 0; all where empty.
            factor: the factor of "u" or "classes"; may be empty where the model has only one.
            steps: columns for z and u, 2 to 64; 9 where None.
            reach: range of z and u to either side, in standard deviations of the prior; 2.5 where None.
            classes: of the bases that are drawn, as for `generate`.
            count: number of bases to draw; one where None.
            seed: of the draw, as for `generate`.
        """
        chosen = await self._class_choices([{} if classes is None else classes])
        bases = None if images is None else traversal_bases(images, (await self._details()).packing)
        request = traverse_request(
            self._selector,
            bases,
            along=along,
            dimensions=dimensions,
            factor=factor,
            steps=steps,
            reach=reach,
            classes=chosen[0] or None,
            count=count,
            seed=seed,
        )
        response = await self._transport.call(lambda stub: stub.Traverse, request, locator({"": bases}))
        return Traversal.from_response(response, along)

    async def transfer(
        self,
        content: ImageInput | None = None,
        style: ImageInput | None = None,
        *,
        z_images: ImageInput | None = None,
        u_images: ImageInput | None = None,
        classes: Sequence[ClassSpec] | None = None,
        factors: Sequence[str] = (),
        pairs: bool = False,
    ) -> Transferred:
        """Return images that combine the class-related u of some images, or of classes, with the z of others.

        As in Figure 5 of the paper there is one row per u, which keeps its class, and one column per z, its style.

        Args:
            content: deprecated, use `z_images`. With it there is one row per z and one column per u.
            style: deprecated, use `u_images`.
            z_images: images that give z, and u of the factors that the others do not give; as for `features`, but in
                one message.
            u_images: images that give u; or None.
            classes: classes that give u instead of `u_images`, one per row: each {factor: class}, "NAME",
                "factor=NAME", or a list of those, each of another factor.
            factors: the factors whose u is that of `u_images`; all where empty.
            pairs: combine the n-th u with the n-th z only, rather than each with each.
        """
        chosen = None if classes is None else await self._class_choices(class_rows(classes))
        request, sent = transfer_request(
            self._selector,
            content,
            style,
            (await self._details()).packing,
            z_images=z_images,
            u_images=u_images,
            classes=chosen,
            factors=factors,
            pairs=pairs,
        )
        response = await self._transport.call(lambda stub: stub.TransferAttributes, request, locator(sent))
        return Transferred.from_response(response)

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return all versions of all models of the server, by name and version."""
        response = await self._transport.call(lambda stub: stub.ListModels, pb.ListModelsRequest())
        return tuple(ModelInfo.from_response(status) for status in response.models)

    async def model_info(self, model: str | None = None, version: int | None = None) -> ModelDetails:
        """Return a model's manifest and where it runs.

        Args:
            model: name of the model; that of this client by default.
            version: its version; that of this client by default.
        """
        selector = model_selector(
            self._selector.name if model is None else model, self._selector.version if version is None else version
        )
        response = await self._transport.call(lambda stub: stub.GetModel, pb.GetModelRequest(model=selector))
        return ModelDetails.from_response(response)

    async def close(self) -> None:
        """Close the connection; pending calls are cancelled."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        self._transport.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _stream(self, stream: FeatureStream) -> AsyncIterator[FeatureChunk]:
        stream.start((await self._details()).packing)
        async with aclosing(self._transport.stream(stream)) as chunks_of_features:
            async for chunk in chunks_of_features:
                yield chunk

    async def _details(self) -> ModelDetails:
        """Return the server's limits and the model, as they are or were a short time ago."""
        now = time.monotonic()
        if self._known is None or now - self._known[0] > DETAILS_SECONDS:
            self._known = (now, await self.model_info())
        return self._known[1]

    async def _class_choices(self, classes: Sequence[ClassSpec]) -> list[Mapping[str, str]]:
        """Return each entry as {factor: class}; asks the server for the factors of those that do not name them."""
        details = await self.model_info() if any(not isinstance(spec, Mapping) for spec in classes) else None
        return [class_by_factor(spec, details.manifest if details else None) for spec in classes]
