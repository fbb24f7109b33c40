"""What the model says of images, as small dataclasses of arrays: the same from a server, in process, or in bulk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from partedvae.v1.manifest_pb2 import Manifest

FloatArray = NDArray[np.float32]
ImageArray = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class FactorResult:
    """Class-related results of one factor for a batch of images."""

    name: str
    """Name of the factor, "digit" for MNIST."""
    class_names: tuple[str, ...]
    """Names of its classes."""
    probs: FloatArray | None = None
    """q(c_k | x), [images, classes]; None where not asked for."""
    u_mean: FloatArray | None = None
    """Mean of q(u_k | c_k, x), [images, u_dim]: the class-related features; None where not asked for."""
    u_logvar: FloatArray | None = None
    """Log-variance of q(u_k | c_k, x), [images, u_dim]; None where not asked for."""

    @property
    def class_indices(self) -> NDArray[np.int64]:
        """Index of the most probable class, [images]."""
        indices: NDArray[np.int64] = np.argmax(_asked_for(self.probs, "probs"), axis=1)
        return indices

    @property
    def classes(self) -> NDArray[np.str_]:
        """Name of the most probable class, [images]."""
        return np.array(self.class_names)[self.class_indices]


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of a batch of images; see paper section 4.1 for u and z."""

    factors: tuple[FactorResult, ...]
    """One entry a factor, in the model's order."""
    z: FloatArray | None = None
    """Mean of q(z | x), [images, z_dim]: the class-independent features; None where not asked for."""
    z_logvar: FloatArray | None = None
    """Log-variance of q(z | x), [images, z_dim]; None where not asked for."""
    reconstruction_error: FloatArray | None = None
    """Error of the reconstruction from the posterior means, summed over pixels, [images]; None where not asked for."""
    negative_elbo: FloatArray | None = None
    """Negative ELBO (Equation 2 of the paper), [images]: high for most images unlike those of the training, though
    not for an empty one; None where not asked for."""
    model: str = ""
    """Name of the model that answered."""
    version: int = 0
    """Its version."""

    def __getitem__(self, factor: str) -> FactorResult:
        """Return one factor's results by name."""
        for result in self.factors:
            if result.name == factor:
                return result
        raise KeyError(f"no factor {factor!r}; the model has {[f.name for f in self.factors]}")

    def __iter__(self) -> Iterator[FactorResult]:
        """Iterate over the factors."""
        return iter(self.factors)

    @property
    def u(self) -> FloatArray:
        """The class-related features of all factors side by side, [images, sum of u_dim]."""
        return np.concatenate([_asked_for(f.u_mean, "u_mean") for f in self.factors], axis=1)

    @property
    def probs(self) -> FloatArray:
        """q(c | x), [images, classes], of a model with one factor."""
        return _asked_for(self._only_factor("probs").probs, "probs")

    @property
    def classes(self) -> NDArray[np.str_]:
        """Name of the most probable class, [images], of a model with one factor."""
        return self._only_factor("classes").classes

    def _only_factor(self, attribute: str) -> FactorResult:
        if len(self.factors) != 1:
            names = [f.name for f in self.factors]
            raise ValueError(
                f"the model has {len(names)} factors: take features[name].{attribute} with a name of {names}"
            )
        return self.factors[0]


@dataclass(frozen=True, kw_only=True)
class ImageProblem:
    """An image that could not be used."""

    index: int
    """Its position in the call."""
    name: str
    """Its file; empty where it is none."""
    reason: str
    """What is wrong with it, and the remedy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureChunk:
    """Features of some of the images of a stream, and what is wrong with others."""

    features: Features | None
    """Of the images that could be used, in order; None where there is none."""
    positions: Sequence[int]
    """For each row of the features, the position of its image in the call."""
    problems: tuple[ImageProblem, ...] = ()
    """The images that could not be used, in order."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One version of one model on a server."""

    name: str
    """Name of the model."""
    version: int
    """Its version."""
    ready: bool
    """Whether it answers."""
    reason: str = ""
    """Why it does not answer; empty otherwise."""
    is_default: bool = False
    """Whether a call without a version means this one."""


@dataclass(frozen=True, kw_only=True)
class ModelDetails:
    """What is known of one model."""

    name: str
    """Name of the model."""
    version: int
    """Its version."""
    manifest: Manifest
    """What export wrote: image size, factors with their classes and priors, training, scores, checksums."""
    execution_provider: str
    """ONNX Runtime's execution provider in use, "CPUExecutionProvider"."""
    has_scores: bool = False
    """Whether reconstruction_error and negative_elbo can be included in features."""


def concatenate(parts: Sequence[Features]) -> Features:
    """Join the features of consecutive batches into one, in order; all must come from the same model."""
    first = parts[0]
    if len(parts) == 1:
        return first
    factors = tuple(
        FactorResult(
            name=factor.name,
            class_names=factor.class_names,
            probs=_join([p.factors[k].probs for p in parts]),
            u_mean=_join([p.factors[k].u_mean for p in parts]),
            u_logvar=_join([p.factors[k].u_logvar for p in parts]),
        )
        for k, factor in enumerate(first.factors)
    )
    return Features(
        factors=factors,
        z=_join([p.z for p in parts]),
        z_logvar=_join([p.z_logvar for p in parts]),
        reconstruction_error=_join([p.reconstruction_error for p in parts]),
        negative_elbo=_join([p.negative_elbo for p in parts]),
        model=first.model,
        version=first.version,
    )


def _join(arrays: Sequence[FloatArray | None]) -> FloatArray | None:
    present = [a for a in arrays if a is not None]
    return np.concatenate(present) if present else None


def _asked_for(array: FloatArray | None, name: str) -> FloatArray:
    if array is None:
        raise ValueError(f"{name} was not asked for: add it to include=")
    return array
