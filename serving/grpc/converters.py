"""Converts messages to and from arguments and results of the operations: names, arrays and images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from partedvae.familiarity import to_messages
from partedvae.image_results import Generated
from partedvae.latents import expected_shapes
from partedvae.requests import DEFAULT_INCLUDE, FeatureName
from partedvae.results import Features, FloatArray, ImageArray
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.images import ImageLimits, encode_png
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository.table import VersionStatus
from partedvae.tensors import LITTLE_ENDIAN, float_bytes, float_tensor
from partedvae.v1 import service_pb2, tensors_pb2
from partedvae.v1.manifest_pb2 import Manifest

_OUTPUTS: dict[int, FeatureName] = {
    service_pb2.FEATURE_OUTPUT_PROBS: "probs",
    service_pb2.FEATURE_OUTPUT_U_MEAN: "u_mean",
    service_pb2.FEATURE_OUTPUT_U_LOGVAR: "u_logvar",
    service_pb2.FEATURE_OUTPUT_Z_MEAN: "z_mean",
    service_pb2.FEATURE_OUTPUT_Z_LOGVAR: "z_logvar",
    service_pb2.FEATURE_OUTPUT_RECONSTRUCTION_ERROR: "reconstruction_error",
    service_pb2.FEATURE_OUTPUT_NEGATIVE_ELBO: "negative_elbo",
    service_pb2.FEATURE_OUTPUT_UNFAMILIAR: "unfamiliar",
}

_NAMED_FACTORS: WeakKeyDictionary[OnnxModel, bytes] = WeakKeyDictionary()
"""Results of `_named_factors` per model."""


def include_from(values: Iterable[int]) -> tuple[FeatureName, ...]:
    """Return the names of the requested outputs; the class-related ones by default.

    Raises:
        InvalidInputError: a value is unspecified or unknown.
    """
    names = []
    for value in values:
        if value not in _OUTPUTS:
            known = [service_pb2.FeatureOutput.Name(service_pb2.FeatureOutput.ValueType(v)) for v in _OUTPUTS]
            raise InvalidInputError(f"include has the value {value}; choose from {known}")
        names.append(_OUTPUTS[value])
    return tuple(names) or DEFAULT_INCLUDE


def wants_png(value: int) -> bool:
    """Report whether images are to be returned as PNG files rather than raw pixels.

    Raises:
        InvalidInputError: the value is unknown.
    """
    if value not in service_pb2.ImageFormat.values():
        raise InvalidInputError(f"format has the value {value}; choose one of {service_pb2.ImageFormat.keys()[1:]}")
    return value == service_pb2.IMAGE_FORMAT_PNG


def images_message(images: ImageArray, png: bool) -> tensors_pb2.Images:
    """Return the message of uint8 [images, height, width, channels], as raw pixels or as PNG files."""
    if png:
        return tensors_pb2.Images(encoded=tensors_pb2.EncodedImages(items=encode_png(images)))
    return tensors_pb2.Images(packed=tensors_pb2.PackedImages(data=images.tobytes(), shape=images.shape))


def latents_from(request: service_pb2.DecodeRequest, manifest: Manifest) -> tuple[FloatArray, FloatArray]:
    """Return u and z of a request, as views of it; their sizes are those that `decode` checks.

    Raises:
        InvalidInputError: one is missing or no matrix, or its length does not match its shape.
    """
    shapes = expected_shapes(manifest)
    return _matrix(request.u, "u", shapes["u"]), _matrix(request.z, "z", shapes["z"])


def _matrix(tensor: tensors_pb2.FloatTensor, field: str, expected: str) -> FloatArray:
    shape = tuple(tensor.shape)
    if not shape and not tensor.data:
        raise InvalidInputError(f"{field} is missing; send float32 {expected}")
    if len(shape) != 2:
        raise InvalidInputError(f"{field} has the shape {list(shape)[:8]}; it must be {expected}")
    size = math.prod(shape) * LITTLE_ENDIAN.itemsize
    if len(tensor.data) != size:
        raise InvalidInputError(
            f"{field} has {len(tensor.data):,} bytes; float32 of the shape {list(shape)} has {size:,}, and the shape "
            f"must be {expected}"
        )
    matrix: FloatArray = np.frombuffer(tensor.data, LITTLE_ENDIAN).reshape(shape)
    return matrix


def model_version(model: OnnxModel) -> service_pb2.ModelVersion:
    """Return name and version of a model."""
    return service_pb2.ModelVersion(name=model.name, version=model.version)


def model_response(
    model: OnnxModel, limits: ImageLimits, max_message_bytes: int, front: str
) -> service_pb2.GetModelResponse:
    """Return the reply of GetModel, with the limits of the server, and its front."""
    return service_pb2.GetModelResponse(
        model=model_version(model),
        manifest=model.manifest,
        execution_provider=model.provider,
        precision=model.precision,
        has_scores=model.has_scores,
        limits=service_pb2.RequestLimits(
            max_message_bytes=max_message_bytes,
            max_images=limits.max_images,
            max_pixels=limits.max_pixels,
            max_request_pixels=limits.max_request_pixels,
        ),
        front=front,
    )


def status_message(status: VersionStatus) -> service_pb2.ModelStatus:
    """Return the message of the state of one version."""
    return service_pb2.ModelStatus(
        model=service_pb2.ModelVersion(name=status.name, version=status.version),
        state=service_pb2.MODEL_STATE_READY if status.ready else service_pb2.MODEL_STATE_BROKEN,
        reason=status.reason,
        is_default=status.is_default,
    )


def features_response(model: OnnxModel, features: Features) -> service_pb2.ExtractFeaturesResponse:
    """Return the reply of ExtractFeatures; outputs that are None stay unset."""
    # Parsing the constant part (names of factors and classes) is faster than setting it field by field.
    reply = service_pb2.ExtractFeaturesResponse.FromString(_named_factors(model))
    for message, factor in zip(reply.factors, features.factors, strict=True):
        if factor.probs is not None:
            _fill(message.probs, factor.probs)
        if factor.u_mean is not None:
            _fill(message.u_mean, factor.u_mean)
        if factor.u_logvar is not None:
            _fill(message.u_logvar, factor.u_logvar)
    if features.z is not None:
        _fill(reply.z_mean, features.z)
    if features.z_logvar is not None:
        _fill(reply.z_logvar, features.z_logvar)
    if features.reconstruction_error is not None:
        _fill(reply.reconstruction_error, features.reconstruction_error)
    if features.negative_elbo is not None:
        _fill(reply.negative_elbo, features.negative_elbo)
    if features.unfamiliar is not None:
        reply.familiarity.extend(to_messages(features.unfamiliar))
    return reply


def _named_factors(model: OnnxModel) -> bytes:
    """Return the serialized constant part of a model's replies: its name, and its factors with their classes."""
    named = _NAMED_FACTORS.get(model)
    if named is None:
        reply = service_pb2.ExtractFeaturesResponse(
            model=model_version(model),
            factors=[
                service_pb2.FactorFeatures(name=factor.name, class_names=factor.class_names)
                for factor in model.manifest.factors
            ],
        )
        named = _NAMED_FACTORS[model] = reply.SerializeToString()
    return named


def _fill(tensor: tensors_pb2.FloatTensor, array: FloatArray) -> None:
    """Write an array to an empty message."""
    tensor.shape.extend(array.shape)
    tensor.data = float_bytes(array)


def check_chunk(request: service_pb2.StreamFeaturesRequest, first: service_pb2.StreamFeaturesRequest) -> None:
    """Check that a later request of a stream agrees with the first.

    Raises:
        InvalidInputError: it has another model or another include.
    """
    other_model = request.HasField("model") and request.model != first.model
    if other_model or (request.include and request.include != first.include):
        raise InvalidInputError(
            f"a later chunk of the stream has another {'model' if other_model else 'include'} than the first; "
            "leave it empty, or open another stream"
        )


def stream_response(
    features: service_pb2.ExtractFeaturesResponse | None, errors: Iterable[ImageError]
) -> service_pb2.StreamFeaturesResponse:
    """Return the reply to one chunk of a stream.

    Args:
        features: features of the images that could be used; None if there are none.
        errors: errors of the other images.
    """
    return service_pb2.StreamFeaturesResponse(
        features=features,
        errors=[service_pb2.ImageError(index=error.index, reason=error.reason) for error in errors],
    )


def classify_response(model: OnnxModel, features: Features) -> service_pb2.ClassifyResponse:
    """Return the reply of Classify: class probabilities, and the most probable class of each image."""
    return service_pb2.ClassifyResponse(
        model=model_version(model),
        factors=[
            service_pb2.FactorClasses(
                name=factor.name,
                class_names=factor.class_names,
                class_indices=factor.class_indices.tolist(),
                probs=None if factor.probs is None else float_tensor(factor.probs),
            )
            for factor in features
        ],
        familiarity=to_messages(features.unfamiliar),
    )


def generate_response(
    model: OnnxModel, generated: Generated, images: tensors_pb2.Images
) -> service_pb2.GenerateResponse:
    """Return the reply of Generate, given its packed images."""
    return service_pb2.GenerateResponse(
        model=model_version(model),
        images=images,
        factors=named_classes(model, generated.classes),
        seed=generated.seed,
    )


def named_classes(model: OnnxModel, classes: Mapping[str, NDArray[np.str_]]) -> list[service_pb2.FactorClasses]:
    """Convert class names, {factor: [images]}."""
    messages = []
    for factor in model.manifest.factors:
        index = {name: i for i, name in enumerate(factor.class_names)}
        indices = [index[name] for name in classes[factor.name].tolist()]
        messages.append(
            service_pb2.FactorClasses(name=factor.name, class_names=factor.class_names, class_indices=indices)
        )
    return messages
