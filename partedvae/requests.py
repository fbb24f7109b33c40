"""Outputs and latent requests: checks the caller's arguments and builds the messages."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from partedvae.common.suggest import did_you_mean
from partedvae.errors import InvalidRequestError
from partedvae.image_chunks import one_message
from partedvae.image_items import ImageInput
from partedvae.packing import Packing
from partedvae.v1 import service_pb2 as pb

FeatureName: TypeAlias = Literal[
    "probs", "u_mean", "u_logvar", "z_mean", "z_logvar", "reconstruction_error", "negative_elbo", "unfamiliar"
]
DEFAULT_INCLUDE: tuple[FeatureName, ...] = ("probs", "u_mean")
"""The class-related outputs."""
Along: TypeAlias = Literal["z", "u", "classes"]
"""What changes in a traversal."""
MAX_UINT32, MAX_UINT64 = 2**32 - 1, 2**64 - 1
"""Largest values of the contract's counts and dimensions, and of its seeds."""


def feature_outputs(include: Iterable[FeatureName]) -> list[pb.FeatureOutput.ValueType]:
    """Return the protocol's values for the names of outputs.

    Raises:
        InvalidRequestError: a name is unknown, or there is none.
    """
    known = get_args(FeatureName)
    names = list(include)
    if not names:
        raise InvalidRequestError(f"include is empty; choose from {', '.join(known)}")
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"; choose from {', '.join(known)}"
            raise InvalidRequestError(f"include has {name!r}, which is not a feature output{hint}")
    return [pb.FeatureOutput.Value(f"FEATURE_OUTPUT_{name.upper()}") for name in names]


def generate_request(
    selector: pb.ModelSelector, count: int, *, classes: Mapping[str, str], seed: int | None
) -> pb.GenerateRequest:
    """Build the request of `Client.generate`.

    Args:
        selector: model and version.
        count: number of images.
        classes: class name by factor name.
        seed: seed of the sampling; None lets the server choose one.

    Raises:
        InvalidRequestError: count or seed is out of range.
    """
    _check_range("count", count, MAX_UINT32)
    _check_range("seed", seed, MAX_UINT64)
    return pb.GenerateRequest(model=selector, count=count, classes=classes, seed=seed)


def traverse_request(
    selector: pb.ModelSelector,
    images: ImageInput | None,
    packing: Packing,
    *,
    along: Along,
    dimensions: Sequence[int],
    factor: str,
    steps: int | None,
    reach: float | None,
    classes: Mapping[str, str] | None,
    count: int | None,
    seed: int | None,
) -> pb.TraverseRequest:
    """Return the request of `Client.traverse`, whose arguments these are, besides the packing of its images.

    Raises:
        InvalidRequestError: arguments exclude each other, or a value is not allowed.
        OSError: a file cannot be read.
    """
    if along not in get_args(Along):
        hint = did_you_mean(along, get_args(Along))
        raise InvalidRequestError(f"along is {along!r}; choose from {', '.join(get_args(Along))}{hint}")
    if along == "z" and factor:
        raise InvalidRequestError(f"factor {factor!r} cannot be used with along='z': z belongs to no factor")
    if along == "classes" and (dimensions or steps is not None or reach is not None):
        raise InvalidRequestError(
            "dimensions, steps and reach cannot be used with along='classes', where each column is a class"
        )
    if images is not None and (classes is not None or count is not None or seed is not None):
        raise InvalidRequestError("classes, count and seed draw the bases and cannot be used with images: pass either")
    _check(count is None or count >= 1, f"count is {count}; it must be at least 1")
    _check(steps is None or steps >= 2, f"steps is {steps}; it must be at least 2")
    _check(reach is None or reach > 0, f"reach is {reach}; it must be more than 0 standard deviations")
    _check_range("seed", seed, MAX_UINT64)
    _check_range("count", count, MAX_UINT32)
    for dimension in dimensions:
        _check_range("dimension", dimension, MAX_UINT32)
    request = pb.TraverseRequest(model=selector, steps=steps or 0, reach=reach or 0)
    if images is None:
        request.prior.CopyFrom(pb.PriorDraw(count=count or 1, classes=classes, seed=seed))
    else:
        request.images.CopyFrom(one_message(images, "the bases of a traversal", packing))
    if along == "z":
        request.z.CopyFrom(pb.ZDimensions(dimensions=dimensions))
    elif along == "u":
        request.u.CopyFrom(pb.UDimensions(factor=factor, dimensions=dimensions))
    else:
        request.classes_of = factor
    return request


def transfer_request(
    selector: pb.ModelSelector,
    content: ImageInput | None,
    style: ImageInput | None,
    packing: Packing,
    *,
    z_images: ImageInput | None,
    u_images: ImageInput | None,
    classes: Sequence[Mapping[str, str]] | None,
    factors: Sequence[str],
    pairs: bool,
) -> pb.TransferAttributesRequest:
    """Return the request of `Client.transfer`, whose arguments these are, besides the packing of its images.

    With the deprecated `content` and `style` it has the deprecated fields, whose grid is transposed. To be called by
    `transfer` itself, so that the warning names the line of its caller.

    Raises:
        InvalidRequestError: arguments are missing or exclude each other.
        OSError: a file cannot be read.
    """
    former = content is not None or style is not None
    if former:
        warnings.warn(
            "content and style of transfer are deprecated: pass z_images and u_images by name, whose grid has one row "
            "per u and one column per z",
            DeprecationWarning,
            stacklevel=3,
        )
        if z_images is not None or u_images is not None:
            raise InvalidRequestError(
                "the deprecated content and style cannot be combined with z_images and u_images: pass the latter only"
            )
        z_images, u_images = content, style
    if z_images is None:
        raise InvalidRequestError("no images give z: pass z_images")
    if (u_images is None) == (classes is None):
        raise InvalidRequestError("pass either u_images or classes, which give u")
    if classes is not None and factors:
        raise InvalidRequestError("factors cannot be used with classes, which name their factors: leave factors out")
    z_message = one_message(z_images, "the z_images of a transfer", packing)
    u_message = None if u_images is None else one_message(u_images, "the u_images of a transfer", packing)
    choices = None if classes is None else pb.ClassChoices(items=[pb.ClassChoice(classes=c) for c in classes])
    request = pb.TransferAttributesRequest(
        model=selector, factors=factors, layout=pb.TRANSFER_LAYOUT_PAIRS if pairs else pb.TRANSFER_LAYOUT_GRID
    )
    fields = ("content", "style_images", "style_classes") if former else ("z_images", "u_images", "u_classes")
    for name, message in zip(fields, (z_message, u_message, choices), strict=True):
        if message is not None:
            getattr(request, name).CopyFrom(message)
    return request


def _check_range(name: str, value: int | None, most: int) -> None:
    """Check an integer against the range of its field; the server checks what the model has."""
    _check(value is None or 0 <= value <= most, f"{name} is {value}; it must be 0 to {most}")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidRequestError(message)
