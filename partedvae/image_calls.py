"""The calls whose responses have one row per image: what they send, and how a response is read and divided."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Generic, TypeVar

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from partedvae.image_results import read_images
from partedvae.requests import FeatureName, feature_outputs
from partedvae.results import FactorResult, Features, ImageArray
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.tensors_pb2 import Images

Result = TypeVar("Result")
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class ImageCall(Generic[Result]):
    """A method of the service with the options of one call."""

    rpc: str
    """Name of the method."""
    options: Hashable
    """The model and everything else that the request has beside images: equal where requests can be joined."""
    request: Callable[[Images], Message]
    """Makes the request for images."""
    read: Callable[[Any], Result]
    """Reads the response."""
    lengths: Callable[[Result], set[int]]
    """Returns the numbers of rows of what was read: one number, that of the images, or none where nothing was sent."""
    rows: Callable[[Result, slice], Result]
    """Returns some rows of what was read, as a copy."""

    @property
    def method(self) -> Callable[[Any], Any]:
        """Selects the method of a stub."""
        return attrgetter(self.rpc)


def features_call(selector: pb.ModelSelector, include: Iterable[FeatureName]) -> ImageCall[Features]:
    """Return the call of `Client.features`; the errors are those of `feature_outputs`."""
    return _features_call(selector.name, selector.version, tuple(feature_outputs(include)))


def classify_call(selector: pb.ModelSelector, *, check_familiarity: bool) -> ImageCall[Features]:
    """Return the call of `Client.classify`."""
    return _classify_call(selector.name, selector.version, check_familiarity)


def reconstruct_call(selector: pb.ModelSelector) -> ImageCall[ImageArray]:
    """Return the call of `Client.reconstruct`."""
    return _reconstruct_call(selector.name, selector.version)


# Kept between calls, because making them takes as long as packing a small image.
@lru_cache
def _features_call(name: str, version: int, outputs: tuple[pb.FeatureOutput.ValueType, ...]) -> ImageCall[Features]:
    selector = pb.ModelSelector(name=name, version=version)
    return ImageCall(
        rpc="ExtractFeatures",
        options=(name, version, *sorted(set(outputs))),
        request=lambda images: pb.ExtractFeaturesRequest(model=selector, images=images, include=outputs),
        read=Features.from_response,
        lengths=_feature_lengths,
        rows=feature_rows,
    )


@lru_cache
def _classify_call(name: str, version: int, check_familiarity: bool) -> ImageCall[Features]:
    selector = pb.ModelSelector(name=name, version=version)
    return ImageCall(
        rpc="Classify",
        options=(name, version, check_familiarity),
        request=lambda images: pb.ClassifyRequest(model=selector, images=images, check_familiarity=check_familiarity),
        read=Features.from_response,
        lengths=_feature_lengths,
        rows=feature_rows,
    )


@lru_cache
def _reconstruct_call(name: str, version: int) -> ImageCall[ImageArray]:
    selector = pb.ModelSelector(name=name, version=version)
    return ImageCall(
        rpc="Reconstruct",
        options=(name, version),
        request=lambda images: pb.ReconstructRequest(model=selector, images=images),
        read=lambda response: read_images(response.images),
        lengths=lambda images: {len(images)},
        rows=lambda images, rows: images[rows].copy(),
    )


def feature_rows(features: Features, rows: slice) -> Features:
    """Return the features of some of the images, as copies: a caller's result does not keep those of others."""
    texts = features.unfamiliar
    return Features(
        factors=tuple(
            FactorResult(
                name=factor.name,
                class_names=factor.class_names,
                probs=_rows(factor.probs, rows),
                u_mean=_rows(factor.u_mean, rows),
                u_logvar=_rows(factor.u_logvar, rows),
            )
            for factor in features.factors
        ),
        z=_rows(features.z, rows),
        z_logvar=_rows(features.z_logvar, rows),
        reconstruction_error=_rows(features.reconstruction_error, rows),
        negative_elbo=_rows(features.negative_elbo, rows),
        # Through a list: the item size of the array is that of the longest of its own texts.
        unfamiliar=None if texts is None else np.array(texts[rows].tolist()),
        model=features.model,
        version=features.version,
    )


def _feature_lengths(features: Features) -> set[int]:
    per_factor = [array for factor in features for array in (factor.probs, factor.u_mean, factor.u_logvar)]
    scores = (features.reconstruction_error, features.negative_elbo, features.unfamiliar)
    return {len(array) for array in (*per_factor, features.z, features.z_logvar, *scores) if array is not None}


def _rows(array: NDArray[Scalar] | None, rows: slice) -> NDArray[Scalar] | None:
    return None if array is None else array[rows].copy()
