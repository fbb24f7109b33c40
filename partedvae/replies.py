"""From the server's messages to small dataclasses of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from partedvae.errors import PartedVAEError
from partedvae.image_results import Generated, Transferred, Traversal, TraversalRow
from partedvae.results import (
    FactorResult,
    Features,
    FloatArray,
    ImageArray,
    ModelDetails,
    ModelInfo,
    concatenate,
)
from partedvae.v1.service_pb2 import (
    ClassifyResponse,
    ExtractFeaturesResponse,
    FactorClasses,
    GenerateResponse,
    GetModelResponse,
    ImageGrid,
    ListModelsResponse,
    ModelState,
    TransferAttributesResponse,
    TraverseResponse,
)
from partedvae.v1.tensors_pb2 import FloatTensor, Images


def features(reply: ExtractFeaturesResponse) -> Features:
    """Read the features of one message."""
    return Features(
        factors=tuple(
            FactorResult(
                name=factor.name,
                class_names=tuple(factor.class_names),
                probs=_floats(factor.probs) if factor.HasField("probs") else None,
                u_mean=_floats(factor.u_mean) if factor.HasField("u_mean") else None,
                u_logvar=_floats(factor.u_logvar) if factor.HasField("u_logvar") else None,
            )
            for factor in reply.factors
        ),
        z=_floats(reply.z_mean) if reply.HasField("z_mean") else None,
        z_logvar=_floats(reply.z_logvar) if reply.HasField("z_logvar") else None,
        reconstruction_error=_floats(reply.reconstruction_error) if reply.HasField("reconstruction_error") else None,
        negative_elbo=_floats(reply.negative_elbo) if reply.HasField("negative_elbo") else None,
        model=reply.model.name,
        version=reply.model.version,
    )


def classified(reply: ClassifyResponse) -> Features:
    """Read the classes of one message: features with probabilities alone."""
    return Features(
        factors=tuple(
            FactorResult(name=factor.name, class_names=tuple(factor.class_names), probs=_floats(factor.probs))
            for factor in reply.factors
        ),
        model=reply.model.name,
        version=reply.model.version,
    )


def generated(reply: GenerateResponse) -> Generated:
    """Read generated images and their classes."""
    return Generated(
        images=images(reply.images),
        classes=_class_names(reply.factors),
        seed=reply.seed,
        model=reply.model.name,
        version=reply.model.version,
    )


def traversed(reply: TraverseResponse) -> Traversal:
    """Read a grid of traversals."""
    return Traversal(
        images=_grid(reply.grid),
        rows=tuple(
            TraversalRow(
                base=row.base,
                dimension=row.dimension if row.HasField("dimension") else None,
                values=np.array(row.values, dtype=np.float32),
            )
            for row in reply.rows
        ),
        class_names=tuple(reply.class_names),
        classes=_class_names(reply.base_classes),
        seed=reply.seed if reply.HasField("seed") else None,
        model=reply.model.name,
        version=reply.model.version,
    )


def transferred(reply: TransferAttributesResponse) -> Transferred:
    """Read a grid of joined attributes."""
    return Transferred(images=_grid(reply.grid), model=reply.model.name, version=reply.model.version)


def images(message: Images) -> ImageArray:
    """Read packed images as uint8 [count, height, width, channels]."""
    pixels = np.frombuffer(message.packed.data, dtype=np.uint8).reshape(tuple(message.packed.shape)).copy()
    return pixels[..., np.newaxis] if pixels.ndim == 3 else pixels


def model_infos(reply: ListModelsResponse) -> tuple[ModelInfo, ...]:
    """Read the list of models."""
    return tuple(
        ModelInfo(
            name=status.model.name,
            version=status.model.version,
            ready=status.state == ModelState.MODEL_STATE_READY,
            reason=status.reason,
            is_default=status.is_default,
        )
        for status in reply.models
    )


def model_details(reply: GetModelResponse) -> ModelDetails:
    """Read what is known of one model."""
    return ModelDetails(
        name=reply.model.name,
        version=reply.model.version,
        manifest=reply.manifest,
        execution_provider=reply.execution_provider,
        has_scores=reply.has_scores,
    )


def joined(parts: Sequence[Features]) -> Features:
    """Join the chunks of one call.

    Raises:
        PartedVAEError: the server took up a new version between two chunks; features of two models do not mix.
    """
    versions = sorted({part.version for part in parts})
    if len(versions) > 1:
        raise PartedVAEError(
            f"model {parts[0].model!r} went from version {versions[0]} to {versions[-1]} during the call; "
            f"ask again, or ask for one version with version={versions[-1]}"
        )
    return concatenate(parts)


def _class_names(factors: Iterable[FactorClasses]) -> dict[str, NDArray[np.str_]]:
    return {
        factor.name: np.array(factor.class_names)[np.array(factor.class_indices, dtype=np.int64)] for factor in factors
    }


def _grid(grid: ImageGrid) -> ImageArray:
    pixels = images(grid.images)
    return pixels.reshape(grid.rows, grid.columns, *pixels.shape[1:])


def _floats(tensor: FloatTensor) -> FloatArray:
    # A copy, because an array over a message's bytes cannot be written to.
    return np.frombuffer(tensor.data, dtype="<f4").reshape(tuple(tensor.shape)).astype(np.float32)
