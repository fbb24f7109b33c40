"""Outputs and latent requests: checks the caller's arguments and builds the messages."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, cast, get_args

from partedvae.arguments import (
    MAX_INT64,
    MAX_UINT32,
    MAX_UINT64,
    check_choice,
    check_integer,
    check_integers,
    check_names,
    check_positive,
    check_text,
)
from partedvae.common.suggest import did_you_mean
from partedvae.errors import InvalidRequestError
from partedvae.image_chunks import Chunk, one_message
from partedvae.image_items import ImageInput
from partedvae.packing import Packing
from partedvae.v1 import service_pb2 as pb

FeatureName: TypeAlias = Literal[
    "probs", "u_mean", "u_logvar", "z_mean", "z_logvar", "reconstruction_error", "negative_elbo", "unfamiliar"
]
DEFAULT_INCLUDE: tuple[FeatureName, ...] = ("probs", "u_mean")
"""The class-related outputs."""
_OUTPUTS = {name: pb.FeatureOutput.Value(f"FEATURE_OUTPUT_{name.upper()}") for name in get_args(FeatureName)}
"""The protocol's value of each output."""
Along: TypeAlias = Literal["z", "u", "classes"]
"""What changes in a traversal."""


def model_selector(name: str, version: int) -> pb.ModelSelector:
    """Return the selector of a model.

    Args:
        name: its name; empty for the only one.
        version: its version; 0 for the newest that works.

    Raises:
        InvalidRequestError: one of them has another type, or the version is out of range.
    """
    check_text("model", name)
    check_integer("version", version, 0, MAX_INT64)
    return pb.ModelSelector(name=name, version=version)


def feature_names(include: Iterable[FeatureName]) -> tuple[FeatureName, ...]:
    """Return the names of outputs.

    Raises:
        InvalidRequestError: a name is unknown, there is none, or `include` is not a list of names.
    """
    names = check_names("include", include)
    if not names:
        raise InvalidRequestError(f"include is empty; choose from {', '.join(_OUTPUTS)}")
    for name in names:
        if name not in _OUTPUTS:
            hint = did_you_mean(name, tuple(_OUTPUTS)) or f"; choose from {', '.join(_OUTPUTS)}"
            raise InvalidRequestError(f"include has {name!r}, which is not a feature output{hint}")
    return tuple(cast("list[FeatureName]", names))


def feature_outputs(include: Iterable[FeatureName]) -> list[pb.FeatureOutput.ValueType]:
    """Return the protocol's values for the names of outputs; the errors are those of `feature_names`."""
    return [_OUTPUTS[name] for name in feature_names(include)]


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
        InvalidRequestError: count or seed is not an integer, or out of range.
    """
    check_integer("count", count, 0, MAX_UINT32)  # The server has the largest count, and refuses 0.
    if seed is not None:
        check_integer("seed", seed, 0, MAX_UINT64)
    return pb.GenerateRequest(model=selector, count=count, classes=classes, seed=seed)


def traversal_bases(images: ImageInput, packing: Packing) -> Chunk:
    """Return the bases of a traversal as one message; the errors are those of `one_message`."""
    return one_message(images, "the bases of a traversal", packing)


def traverse_request(
    selector: pb.ModelSelector,
    bases: Chunk | None,
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
    """Return the request of `Client.traverse`, whose arguments these are; `bases` is the message of its images.

    Raises:
        InvalidRequestError: arguments exclude each other, or a value is not allowed.
    """
    check_choice("along", along, get_args(Along))
    check_text("factor", factor)
    dimensions = check_integers("dimensions", dimensions, MAX_UINT32)
    if along == "z" and factor:
        raise InvalidRequestError(f"factor {factor!r} cannot be used with along='z': z belongs to no factor")
    if along == "classes" and (dimensions or steps is not None or reach is not None):
        raise InvalidRequestError(
            "dimensions, steps and reach cannot be used with along='classes', where each column is a class"
        )
    if bases is not None and (classes is not None or count is not None or seed is not None):
        raise InvalidRequestError("classes, count and seed draw the bases and cannot be used with images: pass either")
    for name, value, least, most in (
        ("count", count, 1, MAX_UINT32),
        ("steps", steps, 2, MAX_UINT32),
        ("seed", seed, 0, MAX_UINT64),
    ):
        if value is not None:
            check_integer(name, value, least, most)
    if reach is not None:
        check_positive("reach", reach, "standard deviations")
    request = pb.TraverseRequest(model=selector, steps=steps or 0, reach=reach or 0)
    if bases is None:
        request.prior.CopyFrom(pb.PriorDraw(count=count or 1, classes=classes, seed=seed))
    else:
        request.images.CopyFrom(bases.images)
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
) -> tuple[pb.TransferAttributesRequest, Mapping[str, Chunk]]:
    """Return the request of `Client.transfer`, whose arguments these are, and the images of each of its fields.

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
    factors = check_names("factors", factors)
    if classes is not None and factors:
        raise InvalidRequestError("factors cannot be used with classes, which name their factors: leave factors out")
    z_message = one_message(z_images, "the z_images of a transfer", packing)
    u_message = None if u_images is None else one_message(u_images, "the u_images of a transfer", packing)
    choices = None if classes is None else pb.ClassChoices(items=[pb.ClassChoice(classes=c) for c in classes])
    request = pb.TransferAttributesRequest(
        model=selector, factors=factors, layout=pb.TRANSFER_LAYOUT_PAIRS if pairs else pb.TRANSFER_LAYOUT_GRID
    )
    fields = ("content", "style_images", "style_classes") if former else ("z_images", "u_images", "u_classes")
    sent = {name: chunk for name, chunk in zip(fields, (z_message, u_message), strict=False) if chunk is not None}
    for name, chunk in sent.items():
        getattr(request, name).CopyFrom(chunk.images)
    if choices is not None:
        getattr(request, fields[2]).CopyFrom(choices)
    return request, sent
