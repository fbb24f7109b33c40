"""The fit of a model's images in its manifest, by name."""

from __future__ import annotations

from partedvae.common.fit import Fit
from partedvae.v1 import manifest_pb2
from partedvae.v1.manifest_pb2 import ImageSpec

BY_NAME: dict[Fit, manifest_pb2.Fit.ValueType] = {
    "stretch": manifest_pb2.FIT_STRETCH,
    "pad": manifest_pb2.FIT_PAD,
    "crop": manifest_pb2.FIT_CROP,
}
_BY_VALUE: dict[int, Fit] = {
    manifest_pb2.FIT_UNSPECIFIED: "stretch",
    manifest_pb2.FIT_STRETCH: "stretch",
    manifest_pb2.FIT_PAD: "pad",
    manifest_pb2.FIT_CROP: "crop",
}


def fit_of(spec: ImageSpec) -> Fit | None:
    """Return how images of another shape are fitted; None for a way that this version does not know."""
    return _BY_VALUE.get(spec.fit)
