"""Converts messages of Traverse and TransferAttributes to and from arguments and results of the operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from partedvae.image_results import Traversal
from partedvae.results import ImageArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.grpc.converters import model_version, named_classes
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.transfer import ClassesOfU
from partedvae.serving.operations.traverse import (
    REACH,
    STEPS,
    Along,
    AlongClasses,
    AlongU,
    AlongZ,
    PriorBase,
)
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.tensors_pb2 import Images


def prior_base_from(message: pb.PriorDraw, seed: int) -> PriorBase:
    """Return the latents to draw from the prior; `seed` is used if the message has none."""
    return PriorBase(
        classes=dict(message.classes),
        seed=message.seed if message.HasField("seed") else seed,
        count=message.count or 1,
    )


def along_from(request: pb.TraverseRequest) -> Along:
    """Return the dimension or factor to vary.

    Raises:
        InvalidInputError: none is set, or steps or reach are set together with classes_of.
    """
    steps, reach = request.steps or STEPS, request.reach or REACH
    match request.WhichOneof("along"):
        case "z":
            return AlongZ(dimensions=tuple(request.z.dimensions), steps=steps, reach=reach)
        case "u":
            return AlongU(factor=request.u.factor, dimensions=tuple(request.u.dimensions), steps=steps, reach=reach)
        case "classes_of":
            if request.steps or request.reach:
                raise InvalidInputError(
                    "steps and reach cannot be combined with classes_of: it has one column per class"
                )
            return AlongClasses(factor=request.classes_of)
        case _:
            raise InvalidInputError("nothing to vary; set z, u or classes_of")


class TransferInputs(NamedTuple):
    """What a request of TransferAttributes combines."""

    z: Images
    """The images that give z."""
    u: Images | ClassesOfU
    """The images or classes that give u."""
    is_transposed: bool
    """Whether the request has the deprecated fields, whose grid has one row per z and one column per u."""
    z_field: str
    """Name of the field of `z`."""
    u_field: str
    """Name of the field of `u`."""


def transfer_inputs_from(request: pb.TransferAttributesRequest) -> TransferInputs:
    """Return the sources of z and u of a request, from the current fields or the deprecated ones.

    Raises:
        InvalidInputError: a source is missing, current and deprecated fields are combined, or `factors` is set together
            with classes.
    """
    z, u, former_u = request.HasField("z_images"), request.WhichOneof("u_source"), request.WhichOneof("style")
    former = [name for name in ("content", former_u) if name and request.HasField(name)]
    if former and (z or u):
        replaced = ["z_images" if name == "content" else name.replace("style", "u") for name in former]
        raise InvalidInputError(
            f"the deprecated {' and '.join(former)} cannot be combined with z_images, u_images or u_classes; "
            f"set {' and '.join(replaced)} instead"
        )
    if not z and "content" not in former:
        raise InvalidInputError("no images give z; set z_images")
    source = u or former_u
    if source is None:
        raise InvalidInputError("nothing gives u; set u_images or u_classes")
    z_field = "content" if former else "z_images"
    z_images = getattr(request, z_field)
    if source.endswith("images"):
        return TransferInputs(z_images, getattr(request, source), bool(former), z_field, source)
    if request.factors:
        raise InvalidInputError(
            f"factors {list(request.factors)} cannot be combined with {source}, which name their own; "
            "leave factors empty"
        )
    choices: list[Mapping[str, str]] = [dict(item.classes) for item in getattr(request, source).items]
    return TransferInputs(z_images, ClassesOfU(choices=choices), bool(former), z_field, source)


def wants_pairs(value: int) -> bool:
    """Report whether u and z are combined in pairs rather than in a grid.

    Raises:
        InvalidInputError: the value is unknown.
    """
    if value not in pb.TransferLayout.values():
        raise InvalidInputError(f"layout has the value {value}; choose one of {pb.TransferLayout.keys()[1:]}")
    return value == pb.TRANSFER_LAYOUT_PAIRS


def flat(images: ImageArray) -> ImageArray:
    """Return the images of a grid row by row, [rows * columns, height, width, channels]."""
    return images.reshape(-1, *images.shape[2:])


def grid_message(images: ImageArray, packed: Images) -> pb.ImageGrid:
    """Return the message of a grid [rows, columns, height, width, channels], given its packed images."""
    return pb.ImageGrid(images=packed, rows=images.shape[0], columns=images.shape[1])


def traverse_response(model: OnnxModel, traversal: Traversal, packed: Images) -> pb.TraverseResponse:
    """Return the reply of Traverse, given its packed images."""
    return pb.TraverseResponse(
        model=model_version(model),
        grid=grid_message(traversal.images, packed),
        rows=[pb.TraverseRow(base=row.base, dimension=row.dimension, values=row.values) for row in traversal.rows],
        class_names=traversal.class_names,
        base_classes=named_classes(model, traversal.classes),
        seed=traversal.seed,
    )
