"""The requests of traversals and transfers, from what the user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from partedvae.common.suggest import did_you_mean
from partedvae.errors import InvalidRequestError
from partedvae.images import one_message
from partedvae.items import ImageInput
from partedvae.names import class_by_factor
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.manifest_pb2 import Manifest

Along: TypeAlias = Literal["z", "u", "classes"]
"""What changes in a traversal."""
ClassStyle: TypeAlias = Mapping[str, str] | str
"""{factor: class}, or one class as "NAME" or "factor=NAME"."""


def named_classes(classes: ClassStyle | None, manifest: Manifest | None) -> Mapping[str, str]:
    """Return {factor: class}; `manifest` is needed where the class is a str."""
    if isinstance(classes, str):
        assert manifest is not None
        return class_by_factor(manifest, classes)
    return classes or {}


def traverse_request(
    selector: pb.ModelSelector,
    images: ImageInput | None,
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
    """Write the request of `Client.traverse`.

    Raises:
        InvalidRequestError: arguments do not go together, or are none of what they may be.
        OSError: a file cannot be read.
    """
    if along not in get_args(Along):
        hint = did_you_mean(along, get_args(Along))
        raise InvalidRequestError(f"along is {along!r}, it takes one of {', '.join(get_args(Along))}{hint}")
    if along == "z" and factor:
        raise InvalidRequestError(f"factor {factor!r} does not go with along='z', which belongs to no factor")
    if along == "classes" and (dimensions or steps is not None or reach is not None):
        raise InvalidRequestError("dimensions, steps and reach do not go with along='classes': a column is a class")
    if images is not None and (classes is not None or count is not None or seed is not None):
        raise InvalidRequestError("classes, count and seed draw the bases and do not go with images: give one of both")
    _check(count is None or count >= 1, f"count is {count}: draw at least one base")
    _check(steps is None or steps >= 2, f"steps is {steps}: ask for at least 2")
    _check(reach is None or reach > 0, f"reach is {reach}: ask for more than 0 standard deviations")
    for dimension in dimensions:
        _check(dimension >= 0, f"dimension {dimension} does not exist: they are counted from 0")
    request = pb.TraverseRequest(model=selector, steps=steps or 0, reach=reach or 0)
    if images is None:
        request.prior.CopyFrom(pb.PriorDraw(count=count or 1, classes=classes, seed=seed))
    else:
        request.images.CopyFrom(one_message(images, "the bases of a traversal"))
    if along == "z":
        request.z.CopyFrom(pb.ZDimensions(dimensions=dimensions))
    elif along == "u":
        request.u.CopyFrom(pb.UDimensions(factor=factor, dimensions=dimensions))
    else:
        request.classes_of = factor
    return request


def transfer_request(
    selector: pb.ModelSelector,
    content: ImageInput,
    style: ImageInput | None,
    *,
    classes: Sequence[Mapping[str, str]] | None,
    factors: Sequence[str],
    pairs: bool,
) -> pb.TransferAttributesRequest:
    """Write the request of `Client.transfer`.

    Raises:
        InvalidRequestError: arguments do not go together.
        OSError: a file cannot be read.
    """
    if (style is None) == (classes is None):
        raise InvalidRequestError("give one of style (images) and classes: they are what u comes from")
    if classes is not None and factors:
        raise InvalidRequestError("factors do not go with classes, which name theirs: leave factors out")
    request = pb.TransferAttributesRequest(
        model=selector,
        content=one_message(content, "the contents of a transfer"),
        factors=factors,
        layout=pb.TRANSFER_LAYOUT_PAIRS if pairs else pb.TRANSFER_LAYOUT_GRID,
    )
    if style is not None:
        request.style_images.CopyFrom(one_message(style, "the styles of a transfer"))
    else:
        request.style_classes.CopyFrom(pb.ClassChoices(items=[pb.ClassChoice(classes=c) for c in classes or ()]))
    return request


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidRequestError(message)
