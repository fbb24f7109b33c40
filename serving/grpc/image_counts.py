"""Counts the images that a request sends or asks for, before its content is checked, for metrics and logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from partedvae.oip.inference_pb2 import ModelInferRequest
from partedvae.serving.images import count_images
from partedvae.v1 import service_pb2 as pb

MAX_ROWS_COUNTED = 2**32 - 1
"""Maximum that an Open Inference Protocol shape adds to the count: the maximum of the shapes of `partedvae.v1`."""


def image_count(request: Any) -> int:
    """Return the number of images of a request, 0 for requests without images."""
    count = _COUNTS.get(type(request))
    return count(request) if count is not None else 0


def _sent(request: pb.ExtractFeaturesRequest | pb.StreamFeaturesRequest | pb.ClassifyRequest) -> int:
    return count_images(request.images)


def _generated(request: pb.GenerateRequest) -> int:
    return request.count


def _decoded(request: pb.DecodeRequest) -> int:
    return request.z.shape[0] if request.z.shape else 0


def _traversed(request: pb.TraverseRequest) -> int:
    return request.prior.count + count_images(request.images)


def _transferred(request: pb.TransferAttributesRequest) -> int:
    # A request has either the former or the latter two.
    former = count_images(request.content) + count_images(request.style_images)
    return former + count_images(request.z_images) + count_images(request.u_images)


def _inferred(request: ModelInferRequest) -> int:
    # Shapes are not checked yet, and may hold any signed 64-bit number.
    rows = next((tensor.shape[0] for tensor in request.inputs if tensor.shape), 0)
    return min(max(rows, 0), MAX_ROWS_COUNTED)


_COUNTS: dict[type, Callable[[Any], int]] = {
    pb.ExtractFeaturesRequest: _sent,
    pb.StreamFeaturesRequest: _sent,
    pb.ClassifyRequest: _sent,
    pb.ReconstructRequest: _sent,
    pb.GenerateRequest: _generated,
    pb.DecodeRequest: _decoded,
    pb.TraverseRequest: _traversed,
    pb.TransferAttributesRequest: _transferred,
    ModelInferRequest: _inferred,
}
