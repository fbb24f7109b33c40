"""Between messages and the domain: names, arrays and images, in both directions. No decisions are taken here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from weakref import WeakKeyDictionary

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from partedvae.image_results import Generated
from partedvae.results import Features, FloatArray, ImageArray
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.images import ImageLimits, decode, encode_png, from_packed
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.features import CLASS_RELATED, Output
from partedvae.serving.repository.repository import VersionStatus
from partedvae.v1 import manifest_pb2, service_pb2, tensors_pb2

_OUTPUTS: dict[int, Output] = {
    service_pb2.FEATURE_OUTPUT_PROBS: "probs",
    service_pb2.FEATURE_OUTPUT_U_MEAN: "u_mean",
    service_pb2.FEATURE_OUTPUT_U_LOGVAR: "u_logvar",
    service_pb2.FEATURE_OUTPUT_Z_MEAN: "z_mean",
    service_pb2.FEATURE_OUTPUT_Z_LOGVAR: "z_logvar",
    service_pb2.FEATURE_OUTPUT_RECONSTRUCTION_ERROR: "reconstruction_error",
    service_pb2.FEATURE_OUTPUT_NEGATIVE_ELBO: "negative_elbo",
}


_NAMED_FACTORS: WeakKeyDictionary[OnnxModel, bytes] = WeakKeyDictionary()
"""What `_named_factors` made, for as long as a model lives."""


def images_from(message: tensors_pb2.Images, spec: manifest_pb2.ImageSpec, limits: ImageLimits) -> ImageArray:
    """Return uint8 [images, height, width, channels] at the model's size.

    Raises:
        InvalidInputError: nothing is set, or the images cannot be used; see `partedvae.serving.images`.
    """
    match message.WhichOneof("source"):
        case "packed":
            return from_packed(message.packed.data, message.packed.shape, spec, limits)
        case "encoded":
            return decode(message.encoded.items, spec, limits)
        case _:
            raise InvalidInputError("no images: set images.packed or images.encoded")


def rows_in(message: tensors_pb2.Images) -> int:
    """Count images before they are read: what a packed shape claims may not be true."""
    return len(message.encoded.items) or next(iter(message.packed.shape), 0)


def include_from(values: Iterable[int]) -> tuple[Output, ...]:
    """Return the names of the outputs asked for; the class-related ones when none is.

    Raises:
        InvalidInputError: an unspecified or unknown value.
    """
    names = []
    for value in values:
        if value not in _OUTPUTS:
            known = [service_pb2.FeatureOutput.Name(service_pb2.FeatureOutput.ValueType(v)) for v in _OUTPUTS]
            raise InvalidInputError(f"include has the value {value}: choose some of {known}")
        names.append(_OUTPUTS[value])
    return tuple(names) or CLASS_RELATED


def png_asked_for(value: int) -> bool:
    """Tell whether images are to be returned as PNG files rather than raw.

    Raises:
        InvalidInputError: an unknown value.
    """
    if value not in service_pb2.ImageFormat.values():
        raise InvalidInputError(f"format has the value {value}: choose one of {service_pb2.ImageFormat.keys()[1:]}")
    return value == service_pb2.IMAGE_FORMAT_PNG


def images_message(images: ImageArray, png: bool) -> tensors_pb2.Images:
    """Pack uint8 [images, height, width, channels], raw or as PNG files."""
    if png:
        return tensors_pb2.Images(encoded=tensors_pb2.EncodedImages(items=encode_png(images)))
    return tensors_pb2.Images(packed=tensors_pb2.PackedImages(data=images.tobytes(), shape=images.shape))


def float_tensor(array: FloatArray | None) -> tensors_pb2.FloatTensor | None:
    """Pack an array as little-endian float32; None stays None."""
    if array is None:
        return None
    return tensors_pb2.FloatTensor(shape=array.shape, data=array.astype("<f4", copy=False).tobytes())


def model_version(runtime: OnnxModel) -> service_pb2.ModelVersion:
    """Name the model that answered."""
    return service_pb2.ModelVersion(name=runtime.name, version=runtime.version)


def model_reply(runtime: OnnxModel) -> service_pb2.GetModelResponse:
    """Tell what is known of a model."""
    return service_pb2.GetModelResponse(
        model=model_version(runtime),
        manifest=runtime.manifest,
        execution_provider=runtime.provider,
        has_scores=runtime.has_scores,
    )


def status_message(status: VersionStatus) -> service_pb2.ModelStatus:
    """Convert the state of one version."""
    return service_pb2.ModelStatus(
        model=service_pb2.ModelVersion(name=status.name, version=status.version),
        state=service_pb2.MODEL_STATE_READY if status.ready else service_pb2.MODEL_STATE_BROKEN,
        reason=status.reason,
        is_default=status.is_default,
    )


def features_reply(runtime: OnnxModel, features: Features) -> service_pb2.ExtractFeaturesResponse:
    """Convert features; what is None is absent."""
    # Parsing what never changes (the names of factors and classes) is faster than setting it, for each single image.
    reply = service_pb2.ExtractFeaturesResponse.FromString(_named_factors(runtime))
    for message, factor in zip(reply.factors, features, strict=True):
        _fill(message, "probs", factor.probs)
        _fill(message, "u_mean", factor.u_mean)
        _fill(message, "u_logvar", factor.u_logvar)
    _fill(reply, "z_mean", features.z)
    _fill(reply, "z_logvar", features.z_logvar)
    _fill(reply, "reconstruction_error", features.reconstruction_error)
    _fill(reply, "negative_elbo", features.negative_elbo)
    return reply


def _named_factors(runtime: OnnxModel) -> bytes:
    """Return what all feature replies of a model begin with: its name, and its factors with their classes."""
    named = _NAMED_FACTORS.get(runtime)
    if named is None:
        reply = service_pb2.ExtractFeaturesResponse(
            model=model_version(runtime),
            factors=[
                service_pb2.FactorFeatures(name=factor.name, class_names=factor.class_names)
                for factor in runtime.manifest.factors
            ],
        )
        named = _NAMED_FACTORS[runtime] = reply.SerializeToString()
    return named


def _fill(message: Message, field: str, array: FloatArray | None) -> None:
    """Pack an array into a field; None leaves it absent."""
    if array is not None:
        tensor: tensors_pb2.FloatTensor = getattr(message, field)
        tensor.shape.extend(array.shape)
        tensor.data = array.astype("<f4", copy=False).tobytes()


def check_chunk(request: service_pb2.StreamFeaturesRequest, first: service_pb2.StreamFeaturesRequest) -> None:
    """Refuse a later request of a stream that asks for something else than the first.

    Raises:
        InvalidInputError: it names another model, or other outputs.
    """
    other_model = request.HasField("model") and request.model != first.model
    if other_model or (request.include and request.include != first.include):
        raise InvalidInputError(
            f"a later chunk of the stream has another {'model' if other_model else 'include'} than the first: "
            "leave it empty, or open a stream for each"
        )


def stream_reply(
    features: service_pb2.ExtractFeaturesResponse | None, errors: Iterable[ImageError]
) -> service_pb2.StreamFeaturesResponse:
    """Join the features of a chunk's usable images, None where there is none, with what is wrong with the others."""
    return service_pb2.StreamFeaturesResponse(
        features=features,
        errors=[service_pb2.ImageError(index=error.index, reason=error.reason) for error in errors],
    )


def classify_reply(runtime: OnnxModel, features: Features) -> service_pb2.ClassifyResponse:
    """Convert class probabilities, with the most probable class of each image."""
    return service_pb2.ClassifyResponse(
        model=model_version(runtime),
        factors=[
            service_pb2.FactorClasses(
                name=factor.name,
                class_names=factor.class_names,
                class_indices=factor.class_indices.tolist(),
                probs=float_tensor(factor.probs),
            )
            for factor in features
        ],
    )


def generate_reply(
    runtime: OnnxModel, generated: Generated, images: tensors_pb2.Images
) -> service_pb2.GenerateResponse:
    """Convert new images, which are packed already, with the classes that they were drawn from."""
    return service_pb2.GenerateResponse(
        model=model_version(runtime),
        images=images,
        factors=named_classes(runtime, generated.classes),
        seed=generated.seed,
    )


def named_classes(runtime: OnnxModel, classes: Mapping[str, NDArray[np.str_]]) -> list[service_pb2.FactorClasses]:
    """Convert class names, {factor: [images]}."""
    messages = []
    for factor in runtime.manifest.factors:
        index = {name: i for i, name in enumerate(factor.class_names)}
        indices = [index[name] for name in classes[factor.name].tolist()]
        messages.append(
            service_pb2.FactorClasses(name=factor.name, class_names=factor.class_names, class_indices=indices)
        )
    return messages
