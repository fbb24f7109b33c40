"""ExtractFeatures of many callers at once: single raw images with the same model and outputs run as one request.

What a request costs by itself (its coroutine, its batch, its reply) is then shared by all that arrived together. The
replies differ in nothing but their numbers, so that they are copies of one serialized reply with other numbers in it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from partedvae.requests import FeatureName
from partedvae.results import Features, FloatArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.grpc import converters
from partedvae.serving.grpc.method import FEW_FIELDS
from partedvae.serving.grpc.request_limits import check_fields
from partedvae.serving.grpc.service_context import ServiceContext
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.features import features
from partedvae.v1 import service_pb2 as pb

_BYTES = np.dtype("<f4").itemsize

MAX_LENGTHS = 256
"""Lengths of requests whose layouts are remembered: one per size of images, kind of client, model and include."""
MAX_OF_A_LENGTH = 8
"""Those of requests of the same length, each of which is compared."""
MAX_AROUND = 2048
"""Bytes of a request beside its pixels up to which its layout is remembered: the longest name, and all outputs. Layouts
are kept for good, and in no budget."""


class Kind(NamedTuple):
    """What requests have in common that can be joined."""

    model: str
    version: int
    include: tuple[FeatureName, ...]
    shape: tuple[int, ...]
    """Of one image, as it was sent."""


class _Layout(NamedTuple):
    """A serialized request without its pixels: others with the same bytes around theirs are of the same kind."""

    before: bytes
    after: bytes
    kind: Kind


class JoinedFeatures:
    """Answers requests of ExtractFeatures together."""

    def __init__(self, service_context: ServiceContext) -> None:
        """Create it with the state of the services."""
        self._shared = service_context
        self._layouts: dict[int, list[_Layout]] = {}

    def split(self, raw: bytes) -> tuple[Kind, bytes] | None:
        """Return the kind of a serialized request and its pixels; None if it cannot be joined with others.

        Clients send requests that differ in nothing but their pixels: their layout is recognised without parsing.
        """
        for layout in self._layouts.get(len(raw), ()):
            if raw.startswith(layout.before) and raw.endswith(layout.after):
                return layout.kind, raw[len(layout.before) : len(raw) - len(layout.after)]
        return self._parsed(raw)

    async def replies(self, kind: Kind, parts: Sequence[bytes]) -> list[bytes]:
        """Return the serialized reply to each request of a kind, given their pixels.

        Raises:
            ServingError: what one of them causes, or what all of them need is not available; ask for each by itself.
        """
        model = await self._shared.model(kind.model, kind.version)
        model.callers = len(parts)
        images = await self._shared.reader.read_pixels(b"".join(parts), (len(parts), *kind.shape), model)
        return feature_replies(model.onnx_model, await features(model, images, kind.include))

    def _parsed(self, raw: bytes) -> tuple[Kind, bytes] | None:
        """Parse a request, and remember its layout."""
        try:
            if not check_fields(raw, pb.ExtractFeaturesRequest.DESCRIPTOR, max_images=1, at_most=FEW_FIELDS):
                return None
            request = pb.ExtractFeaturesRequest.FromString(raw)
            include = converters.include_from(request.include)
        except (DecodeError, InvalidInputError):
            return None
        packed = request.images.packed  # Empty, if the images are files.
        shape, data = tuple(packed.shape), packed.data
        # The texts of "unfamiliar" differ in length. Images of the wrong size are an error of their own.
        if not data or shape[:1] != (1,) or math.prod(shape) != len(data) or "unfamiliar" in include:
            return None
        kind = Kind(request.model.name, request.model.version, include, shape[1:])
        start = raw.find(data)
        layouts = self._layouts.get(len(raw), [])
        has_room = len(layouts) < MAX_OF_A_LENGTH and (layouts or len(self._layouts) < MAX_LENGTHS)
        is_short = len(raw) - len(data) <= MAX_AROUND
        if has_room and is_short and start == raw.rfind(data):
            layouts.append(_Layout(raw[:start], raw[start + len(data) :], kind))
            self._layouts[len(raw)] = layouts
        return kind, data


class _Template:
    """A serialized reply to one image, and where its numbers are."""

    def __init__(self, model: OnnxModel, example: Features) -> None:
        """Make a reply from the features of one image, whose values do not matter."""
        # Numbers that occur only once in the reply; four bytes may occur by chance.
        while True:
            values = [np.frombuffer(os.urandom(array.nbytes), "<f4").reshape(array.shape) for array in arrays(example)]
            reply = converters.features_response(model, _with_arrays(example, values)).SerializeToString()
            if all(reply.count(value.tobytes()) == 1 for value in values if value.size):
                break
        self.reply = np.frombuffer(reply, np.uint8)
        self.offsets = [reply.index(value.tobytes()) for value in values]


_TEMPLATES: WeakKeyDictionary[OnnxModel, dict[tuple[bool, ...], _Template]] = WeakKeyDictionary()


def feature_replies(model: OnnxModel, result: Features) -> list[bytes]:
    """Return a serialized `ExtractFeaturesResponse` per image.

    Args:
        model: the model.
        result: features of the images, without `unfamiliar`.
    """
    columns = arrays(result)
    kinds = tuple(array is not None for array in _all_arrays(result))
    template = _TEMPLATES.setdefault(model, {}).get(kinds)
    if template is None:
        template = _TEMPLATES[model][kinds] = _Template(model, _with_arrays(result, [array[:1] for array in columns]))
    count, size = len(columns[0]), len(template.reply)
    replies: NDArray[np.uint8] = np.empty((count, size), np.uint8)
    replies[:] = template.reply
    for offset, column in zip(template.offsets, columns, strict=True):
        rows = np.ascontiguousarray(column, "<f4").reshape(count, -1)
        replies[:, offset : offset + rows.shape[1] * _BYTES] = rows.view(np.uint8)
    joined = replies.tobytes()
    return [joined[start : start + size] for start in range(0, len(joined), size)]


def arrays(result: Features) -> list[FloatArray]:
    """Return the arrays that were computed."""
    return [array for array in _all_arrays(result) if array is not None]


def _all_arrays(result: Features) -> list[FloatArray | None]:
    per_factor = [each for factor in result.factors for each in (factor.probs, factor.u_mean, factor.u_logvar)]
    return [*per_factor, result.z, result.z_logvar, result.reconstruction_error, result.negative_elbo]


def _with_arrays(result: Features, values: Sequence[FloatArray]) -> Features:
    """Return the same features with other arrays."""
    left = iter(values)

    def next_for(array: FloatArray | None) -> FloatArray | None:
        return None if array is None else next(left)

    factors = tuple(
        replace(
            factor,
            probs=next_for(factor.probs),
            u_mean=next_for(factor.u_mean),
            u_logvar=next_for(factor.u_logvar),
        )
        for factor in result.factors
    )
    return replace(
        result,
        factors=factors,
        z=next_for(result.z),
        z_logvar=next_for(result.z_logvar),
        reconstruction_error=next_for(result.reconstruction_error),
        negative_elbo=next_for(result.negative_elbo),
    )
