"""Models in the Open Inference Protocol: "<name>.encoder" and "<name>.decoder", with their input and output tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from weakref import WeakKeyDictionary

from partedvae.common.suggest import did_you_mean, shortened
from partedvae.serving.bundle import DECODER_INPUTS, DECODER_OUTPUT, ENCODER_INPUT, Z_LOGVAR, Z_MEAN, factor_output
from partedvae.serving.bundle_files import version_number
from partedvae.serving.errors import InvalidInputError, ModelNotFoundError
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository.table import VersionStatus
from partedvae.v1.manifest_pb2 import Manifest

Graph = Literal["encoder", "decoder"]
GRAPHS: tuple[Graph, ...] = get_args(Graph)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output of a graph."""

    name: str
    datatype: Literal["UINT8", "FP32"]
    dims: tuple[int, ...]
    """Dimensions after the rows."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Input and output tensors of a graph, in the graph's order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def requested(self, names: Sequence[str]) -> list[Tensor]:
        """Return the outputs that a request names, in its order; all outputs if it names none.

        Raises:
            InvalidInputError: an output does not exist or is named twice.
        """
        by_name = {tensor.name: tensor for tensor in self.outputs}
        for name in names:
            if name not in by_name:
                raise InvalidInputError(
                    f"no output is named {name!r}; choose from {list(by_name)}{did_you_mean(name, by_name)}"
                )
        if len(set(names)) < len(names):
            raise InvalidInputError(f"the outputs {list(names)} contain a duplicate; request each once")
        return [by_name[name] for name in names] or list(self.outputs)


_SIGNATURES: WeakKeyDictionary[OnnxModel, dict[Graph, Signature]] = WeakKeyDictionary()


def signature_of(model: OnnxModel, graph: Graph) -> Signature:
    """Return the tensors of a graph of a loaded model."""
    signatures = _SIGNATURES.setdefault(model, {})
    if graph not in signatures:
        signatures[graph] = signature(model.manifest, graph)
    return signatures[graph]


def signature(manifest: Manifest, graph: Graph) -> Signature:
    """Return the tensors of a graph."""
    spec = manifest.image
    pixels = (spec.height, spec.width, spec.channels)
    if graph == "encoder":
        outputs = [
            Tensor(name=factor_output(factor.name, kind), datatype="FP32", dims=(dim,))
            for factor in manifest.factors
            for kind, dim in (
                ("probs", len(factor.class_names)),
                ("u_mean", factor.u_dim),
                ("u_logvar", factor.u_dim),
            )
        ]
        outputs += [Tensor(name=name, datatype="FP32", dims=(manifest.z_dim,)) for name in (Z_MEAN, Z_LOGVAR)]
        images = Tensor(name=ENCODER_INPUT, datatype="UINT8", dims=pixels)
        return Signature(inputs=(images,), outputs=tuple(outputs))
    dims = (sum(factor.u_dim for factor in manifest.factors), manifest.z_dim)
    return Signature(
        inputs=tuple(
            Tensor(name=name, datatype="FP32", dims=(dim,)) for name, dim in zip(DECODER_INPUTS, dims, strict=True)
        ),
        outputs=(Tensor(name=DECODER_OUTPUT, datatype="UINT8", dims=pixels),),
    )


def split_name(name: str, models: Collection[str]) -> tuple[str, Graph]:
    """Split "<name>.encoder" or "<name>.decoder" into the name of the model and the graph.

    Args:
        name: name in the request.
        models: names of all models.

    Raises:
        ModelNotFoundError: the model does not exist.
    """
    model, _, ending = name.rpartition(".")
    for graph in GRAPHS:
        if graph == ending and model in models:
            return model, graph
    shown = [f"{each}.{graph}" for each in models for graph in GRAPHS]
    raise ModelNotFoundError(f"no model is named {shortened(name)!r}; choose from {shown}{did_you_mean(name, shown)}")


def version_from(version: str) -> int:
    """Return a version as a number; 0 for an empty string, which selects the default version.

    Raises:
        InvalidInputError: it is not a positive integer of 64 bits in decimal digits without leading zeros.
    """
    if not version:
        return 0
    number = version_number(version)
    if number is None:
        raise InvalidInputError(
            f"the version {shortened(version)!r} is not a positive integer; leave it empty for the newest"
        )
    return number


def is_ready(statuses: Iterable[VersionStatus], model: str, version: int) -> bool:
    """Report whether a version of a model is ready; 0 is the default version."""
    return any(
        status.ready and (status.version == version if version else status.is_default)
        for status in statuses
        if status.name == model
    )
