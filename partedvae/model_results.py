"""What a server reports of its models: their list, and the details of one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from partedvae.familiarity import FAMILIAR, UNFAMILIAR
from partedvae.image_fit import fit_of
from partedvae.packing import Packing, RequestLimits
from partedvae.results import Features, shortened
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.manifest_pb2 import Manifest


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
    """Whether calls without a version use this one."""

    @classmethod
    def from_response(cls, status: pb.ModelStatus) -> Self:
        """Read one entry of the list of models."""
        return cls(
            name=status.model.name,
            version=status.model.version,
            ready=status.state == pb.MODEL_STATE_READY,
            reason=status.reason,
            is_default=status.is_default,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields; `pandas.DataFrame([m.to_dict() for m in client.models()])` is a table of all models."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class ModelDetails:
    """A model's manifest and where it runs."""

    name: str
    """Name of the model."""
    version: int
    """Its version."""
    manifest: Manifest
    """Written by the export: image size, factors with their classes and priors, training, scores, checksums."""
    execution_provider: str
    """ONNX Runtime's execution provider in use, "CPUExecutionProvider"."""
    precision: str = "fp32"
    """Numbers that the encoder computes with, "fp32" or "int8"; the manifest's `int8_encoder` compares them."""
    has_scores: bool = False
    """Whether features can include reconstruction_error and negative_elbo."""
    limits: RequestLimits | None = None
    """Limits of the server on one request; the client groups images by them. None for a model in this process."""
    front: str = ""
    """What receives the calls of the server, "grpcio" or "native"; empty for a model in this process."""

    @property
    def runs_on(self) -> str:
        """The execution provider, with the precision if it is not fp32: "CPUExecutionProvider int8"."""
        return self.execution_provider if self.precision == "fp32" else f"{self.execution_provider} {self.precision}"

    @property
    def has_familiarity(self) -> bool:
        """Whether features can include unfamiliar; bundles of earlier exports do not know the range of the score."""
        return self.has_scores and self.manifest.HasField("familiar_negative_elbo")

    def unfamiliar(self, features: Features) -> NDArray[np.str_] | None:
        """Return the texts of `Features.unfamiliar`, from the negative ELBO if it alone was requested; None without."""
        if features.unfamiliar is None and features.negative_elbo is not None and self.has_familiarity:
            return np.where(features.negative_elbo <= self.manifest.familiar_negative_elbo, FAMILIAR, UNFAMILIAR)
        return features.unfamiliar

    @property
    def fit(self) -> str:
        """How the server fits images of another shape: stretch, pad or crop; "unknown" to this version."""
        return fit_of(self.manifest.image) or "unknown"

    @cached_property
    def packing(self) -> Packing:
        """How images for the model are packed into messages."""
        return Packing.of(self.limits or RequestLimits(), self.manifest.image)

    @property
    def measures(self) -> dict[str, float]:
        """Whether u and not z has the class, "generation/digit" for example; empty if it was not measured.

        The names are explained in protos/partedvae/v1/manifest.proto.
        """
        return dict(self.manifest.measures)

    @property
    def warnings(self) -> list[str]:
        """What the model does not keep of the method's promises; empty for a good model."""
        return list(self.manifest.warnings)

    @classmethod
    def from_response(cls, response: pb.GetModelResponse) -> Self:
        """Read the details of one model."""
        return cls(
            name=response.model.name,
            version=response.model.version,
            manifest=response.manifest,
            execution_provider=response.execution_provider,
            precision=response.precision or "fp32",  # Servers before 0.3.0 have no other.
            has_scores=response.has_scores,
            limits=RequestLimits.from_response(response),
            front=response.front,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the main fields, with those of the manifest: training, class names, fit, measures and warnings."""
        training = self.manifest.training
        return {
            "name": self.name,
            "version": self.version,
            "dataset": training.dataset,
            "recipe": training.recipe,
            "labels_used": training.labels_used,
            "group_labels": dict(training.group_labels),
            "factors": {factor.name: list(factor.class_names) for factor in self.manifest.factors},
            "fit": self.fit,
            "execution_provider": self.execution_provider,
            "precision": self.precision,
            "has_scores": self.has_scores,
            "limits": dataclasses.asdict(self.limits) if self.limits else None,
            "front": self.front,
            "measures": self.measures,
            "warnings": self.warnings,
        }

    def __repr__(self) -> str:
        factors = [f"{f.name}: {shortened(list(f.class_names))}" for f in self.manifest.factors]
        return f"ModelDetails({', '.join([f'{self.name}/{self.version}', *factors, self.runs_on])})"
