"""The client for programs that call and wait; `partedvae.aio` has its twin for asyncio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self

import grpc
import numpy as np

from partedvae import replies
from partedvae.channel import DEFAULT_TIMEOUT, FileName, Token, channel_credentials
from partedvae.common import DEFAULT_ADDRESS
from partedvae.image_results import Generated, Transferred, Traversal
from partedvae.images import chunks
from partedvae.items import ImageInput
from partedvae.latent_requests import Along, ClassStyle, named_classes, transfer_request, traverse_request
from partedvae.names import DEFAULT_INCLUDE, FeatureName, feature_outputs
from partedvae.results import FeatureChunk, Features, ImageArray, ModelDetails, ModelInfo
from partedvae.streams import Exchange, OnProgress
from partedvae.transport import Transport
from partedvae.v1 import service_pb2 as pb


class Client:
    """A connection to a PartedVAE server; use it in a `with` block, from as many threads as you like.

    Every method raises `partedvae.UnavailableError` when no server answers, `DeadlineError` when it does not in time,
    `NotFoundError` for an unknown model, `InvalidRequestError` for images or classes that cannot be used,
    `AuthenticationError` for a token that is missing or wrong, `ModelError` for a model that cannot answer, and
    `OverloadedError` when the server has too much to do; all are `PartedVAEError`. A file that cannot be read is an
    `OSError`. Calls that the server refuses because it is overloaded or stops are sent again, a few times and within
    their `timeout`, before an error is raised.

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
        token: Token | None = None,
        tls: bool = False,
        ca: FileName | None = None,
        cert: FileName | None = None,
        key: FileName | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Prepare the connection; it is made at the first call.

        Args:
            address: HOST:PORT of the server.
            model: name of the model; may be empty where the server has only one.
            version: version of the model, 0 for the newest.
            timeout: seconds for each message; None waits for ever.
            token: a bearer token, the path (not a str) of a file whose first line it is, or a function that gives it.
                The file or the function is read at each call. Send it over TLS, or to this machine.
            tls: encrypt, and trust the authorities that gRPC knows.
            ca: PEM file of the authorities to trust in their place; implies `tls`.
            cert: PEM file of this client's certificate, for servers that ask for one; implies `tls`.
            key: PEM file of its private key.
            credentials: gRPC's own, in place of `tls`, `ca`, `cert` and `key`.

        Raises:
            InvalidRequestError: arguments do not go together.
            OSError: a file of `ca`, `cert` or `key` cannot be read.
        """
        self.address = address
        self._selector = pb.ModelSelector(name=model, version=version)
        secure = channel_credentials(tls=tls, ca=ca, cert=cert, key=key, credentials=credentials)
        self._transport = Transport(address, timeout, token, secure)
        self._stub = self._transport.stub

    def features(self, images: ImageInput, *, include: Iterable[FeatureName] = DEFAULT_INCLUDE) -> Features:
        """Return the features of each image, in order.

        Args:
            images: a uint8 array [count, height, width] or [count, height, width, channels], a path, a file's bytes,
                a PIL image, or a list of those; any number, any size, grey or RGB.
            include: what to return, of "probs", "u_mean", "u_logvar", "z_mean", "z_logvar", and, where
                `model_info().has_scores`, "reconstruction_error" and "negative_elbo".
        """
        outputs = feature_outputs(include)
        requests = (
            (chunk, pb.ExtractFeaturesRequest(model=self._selector, images=chunk.images, include=outputs))
            for chunk in chunks(images)
        )
        parts = [replies.features(reply) for reply in self._transport.each(self._stub.ExtractFeatures, requests)]
        return replies.joined(parts)

    def stream_features(
        self,
        images: ImageInput,
        *,
        include: Iterable[FeatureName] = DEFAULT_INCLUDE,
        on_progress: OnProgress | None = None,
    ) -> Iterator[FeatureChunk]:
        """Yield the features of any number of images, a chunk at a time and in order, holding only a few chunks.

        Where `features` is refused by a server under load, this waits for its turn. A file that cannot be read or
        decoded is a problem of its chunk, and no error. All chunks come from one version of the model.

        Args:
            images: as for `features`; an iterator is read as the server takes its images.
            include: as for `features`.
            on_progress: called after each chunk with the images that are done, and how many there are, None where that
                is not known.

        Raises:
            DeadlineError: something was sent, and for `timeout` seconds nothing came back.
        """
        return self._transport.stream(Exchange(self._selector, images, include, on_progress))

    def classify(self, images: ImageInput) -> Features:
        """Return the class of each image by every factor: features with `probs` alone, hence `classes`.

        Args:
            images: as for `features`.
        """
        requests = ((chunk, pb.ClassifyRequest(model=self._selector, images=chunk.images)) for chunk in chunks(images))
        parts = [replies.classified(reply) for reply in self._transport.each(self._stub.Classify, requests)]
        return replies.joined(parts)

    def generate(self, count: int = 1, *, classes: ClassStyle | None = None, seed: int | None = None) -> Generated:
        """Return new images.

        Args:
            count: how many.
            classes: class name by factor name, or one class as "NAME" or "factor=NAME". Factors that are not named
                are drawn from their prior p(c).
            seed: the same seed gives the same images; None lets the server draw one, and the result tells it.
        """
        named = self._named([classes] if classes else [])
        request = pb.GenerateRequest(model=self._selector, count=count, classes=named[0] if named else {}, seed=seed)
        return replies.generated(self._transport.call(self._stub.Generate, request))

    def reconstruct(self, images: ImageInput) -> ImageArray:
        """Return each image as the model sees it: uint8 [count, height, width, channels] at the model's size.

        Args:
            images: as for `features`.
        """
        requests = (
            (chunk, pb.ReconstructRequest(model=self._selector, images=chunk.images)) for chunk in chunks(images)
        )
        return np.concatenate(
            [replies.images(r.images) for r in self._transport.each(self._stub.Reconstruct, requests)]
        )

    def traverse(
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
        """Return images in which one latent dimension, or the class, changes along a row (Figures 4 and 9).

        Args:
            images: the bases, as for `features` but in one message; what is not traversed stays as in them. None draws
                bases from the priors.
            along: "z" for dimensions of z around 0, "u" for dimensions of a factor's u around the mode of the base's
                class, "classes" for the classes of a factor.
            dimensions: which, counted from 0; all where empty.
            factor: whose u or classes; may be empty where the model has one.
            steps: columns of z and u, 2 to 64; 9 where None.
            reach: how far they go to either side, in standard deviations of the prior; 2.5 where None.
            classes: of the bases that are drawn, as for `generate`.
            count: how many bases to draw; one where None.
            seed: of the draw, as for `generate`.
        """
        named = self._named([classes] if classes else [])
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
        return replies.traversed(self._transport.call(self._stub.Traverse, request))

    def transfer(
        self,
        content: ImageInput,
        style: ImageInput | None = None,
        *,
        classes: Sequence[ClassStyle] | None = None,
        factors: Sequence[str] = (),
        pairs: bool = False,
    ) -> Transferred:
        """Return images that join the z of some with the class-related u of others, or of classes (Figure 5).

        Args:
            content: images that give z, and u of the factors that are not transferred; as for `features`, but in one
                message.
            style: images that give u; or None.
            classes: in their place, classes that give u: each {factor: class}, "NAME" or "factor=NAME".
            factors: the factors that are transferred from `style`; all where empty.
            pairs: join the n-th content with the n-th style alone, rather than each with each.
        """
        named = None if classes is None else self._named(classes)
        request = transfer_request(self._selector, content, style, classes=named, factors=factors, pairs=pairs)
        return replies.transferred(self._transport.call(self._stub.TransferAttributes, request))

    def models(self) -> tuple[ModelInfo, ...]:
        """Return all versions of all models of the server, by name and version."""
        return replies.model_infos(self._transport.call(self._stub.ListModels, pb.ListModelsRequest()))

    def model_info(self, model: str | None = None, version: int | None = None) -> ModelDetails:
        """Return a model's manifest and where it runs; without arguments, the model of this client."""
        selector = pb.ModelSelector(
            name=self._selector.name if model is None else model,
            version=self._selector.version if version is None else version,
        )
        return replies.model_details(self._transport.call(self._stub.GetModel, pb.GetModelRequest(model=selector)))

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _named(self, classes: Sequence[ClassStyle]) -> list[Mapping[str, str]]:
        """Turn classes into {factor: class}; asks the server for the names where one is not told with its factor."""
        manifest = self.model_info().manifest if any(isinstance(c, str) for c in classes) else None
        return [named_classes(c, manifest) for c in classes]
