"""Between the messages of Traverse and TransferAttributes and the domain, in both directions."""

from __future__ import annotations

from collections.abc import Mapping

from partedvae.image_results import Traversal
from partedvae.results import ImageArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.grpc.converters import model_version, named_classes
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.transfer import StyleClasses
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
    """Return bases that are to be drawn; `seed` is used where the message has none."""
    return PriorBase(
        classes=dict(message.classes),
        seed=message.seed if message.HasField("seed") else seed,
        count=message.count or 1,
    )


def along_from(request: pb.TraverseRequest) -> Along:
    """Return what changes.

    Raises:
        InvalidInputError: nothing is set, or steps or reach go with classes.
    """
    steps, reach = request.steps or STEPS, request.reach or REACH
    match request.WhichOneof("along"):
        case "z":
            return AlongZ(dimensions=tuple(request.z.dimensions), steps=steps, reach=reach)
        case "u":
            return AlongU(factor=request.u.factor, dimensions=tuple(request.u.dimensions), steps=steps, reach=reach)
        case "classes_of":
            if request.steps or request.reach:
                raise InvalidInputError("steps and reach do not go with classes_of, which has a column for each class")
            return AlongClasses(factor=request.classes_of)
        case _:
            raise InvalidInputError("nothing changes: set z, u or classes_of")


def style_classes_from(request: pb.TransferAttributesRequest) -> StyleClasses:
    """Return styles given as classes.

    Raises:
        InvalidInputError: factors are named beside them.
    """
    if request.factors:
        raise InvalidInputError(
            f"factors {list(request.factors)} do not go with style_classes, which name theirs: leave factors empty"
        )
    choices: list[Mapping[str, str]] = [dict(item.classes) for item in request.style_classes.items]
    return StyleClasses(choices=choices)


def pairs_asked_for(value: int) -> bool:
    """Tell whether contents and styles meet in pairs rather than in a grid.

    Raises:
        InvalidInputError: an unknown value.
    """
    if value not in pb.TransferLayout.values():
        raise InvalidInputError(f"layout has the value {value}: choose one of {pb.TransferLayout.keys()[1:]}")
    return value == pb.TRANSFER_LAYOUT_PAIRS


def flat(images: ImageArray) -> ImageArray:
    """Return a grid's images row by row, [rows times columns, height, width, channels]."""
    return images.reshape(-1, *images.shape[2:])


def grid_message(images: ImageArray, packed: Images) -> pb.ImageGrid:
    """Describe a grid [rows, columns, height, width, channels] whose images are packed already."""
    return pb.ImageGrid(images=packed, rows=images.shape[0], columns=images.shape[1])


def traverse_reply(runtime: OnnxModel, traversal: Traversal, packed: Images) -> pb.TraverseResponse:
    """Convert traversals."""
    return pb.TraverseResponse(
        model=model_version(runtime),
        grid=grid_message(traversal.images, packed),
        rows=[pb.TraverseRow(base=row.base, dimension=row.dimension, values=row.values) for row in traversal.rows],
        class_names=traversal.class_names,
        base_classes=named_classes(runtime, traversal.classes),
        seed=traversal.seed,
    )
