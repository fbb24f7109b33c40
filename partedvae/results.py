"""Results of encoding images, as small dataclasses of arrays: the same from a server, in process and in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from partedvae.errors import PartedVAEError
from partedvae.familiarity import from_messages
from partedvae.tensors import read_floats
from partedvae.v1 import service_pb2 as pb

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float32]
ImageArray = NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

SHOWN = 5
"""Classes that a `repr` lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FactorResult:
    """Class-related results of one factor for a batch of images."""

    name: str
    """Name of the factor, "digit" for MNIST."""
    class_names: tuple[str, ...]
    """Names of its classes."""
    probs: FloatArray | None = None
    """q(c_k | x), [images, classes]; None where not requested."""
    u_mean: FloatArray | None = None
    """Mean of q(u_k | c_k, x), [images, u_dim]: the class-related features; None where not requested."""
    u_logvar: FloatArray | None = None
    """Log-variance of q(u_k | c_k, x), [images, u_dim]; None where not requested."""

    @classmethod
    def from_response(cls, factor: pb.FactorFeatures | pb.FactorClasses) -> Self:
        """Read one factor of a response; the response to Classify has probabilities only."""
        probs = read_floats(factor.probs) if factor.HasField("probs") else None
        if isinstance(factor, pb.FactorClasses):
            return cls(name=factor.name, class_names=tuple(factor.class_names), probs=probs)
        return cls(
            name=factor.name,
            class_names=tuple(factor.class_names),
            probs=probs,
            u_mean=read_floats(factor.u_mean) if factor.HasField("u_mean") else None,
            u_logvar=read_floats(factor.u_logvar) if factor.HasField("u_logvar") else None,
        )

    @property
    def class_indices(self) -> NDArray[np.int64]:
        """Index of the most probable class, [images]."""
        indices: NDArray[np.int64] = np.argmax(_requested(self.probs, "probs"), axis=1)
        return indices

    @property
    def classes(self) -> NDArray[np.str_]:
        """Name of the most probable class, [images]."""
        return np.array(self.class_names)[self.class_indices]

    def __repr__(self) -> str:
        count = _count(self.probs, self.u_mean, self.u_logvar)
        return f"FactorResult({plural(count, 'image')}, {self._summary()})"

    def _summary(self) -> str:
        return self.name if self.probs is None else f"{self.name}: {shortened(self.classes.tolist())}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of a batch of images; see paper section 4.1 for u and z."""

    factors: tuple[FactorResult, ...]
    """One entry per factor, in the model's order."""
    z: FloatArray | None = None
    """Mean of q(z | x), [images, z_dim]: the class-independent features; None where not requested."""
    z_logvar: FloatArray | None = None
    """Log-variance of q(z | x), [images, z_dim]; None where not requested."""
    reconstruction_error: FloatArray | None = None
    """Error of the reconstruction from the posterior means, summed over pixels, [images]; None where not requested."""
    negative_elbo: FloatArray | None = None
    """Negative ELBO (Equation 2 of the paper), [images]: high for most images unlike the training images, though not
    for an empty one; None where not requested."""
    unfamiliar: NDArray[np.str_] | None = None
    """How an image differs from the training images, by its negative ELBO, [images]; empty where it does not:
    `partedvae.familiarity` has the texts. None where not requested."""
    model: str = ""
    """Name of the model."""
    version: int = 0
    """Version of the model."""

    @classmethod
    def from_response(cls, response: pb.ExtractFeaturesResponse | pb.ClassifyResponse) -> Self:
        """Read the features, or the classes, of one message."""
        factors = tuple(FactorResult.from_response(factor) for factor in response.factors)
        model, version = response.model.name, response.model.version
        unfamiliar = from_messages(response.familiarity)
        if isinstance(response, pb.ClassifyResponse):
            return cls(factors=factors, unfamiliar=unfamiliar, model=model, version=version)
        return cls(
            factors=factors,
            z=read_floats(response.z_mean) if response.HasField("z_mean") else None,
            z_logvar=read_floats(response.z_logvar) if response.HasField("z_logvar") else None,
            reconstruction_error=(
                read_floats(response.reconstruction_error) if response.HasField("reconstruction_error") else None
            ),
            negative_elbo=read_floats(response.negative_elbo) if response.HasField("negative_elbo") else None,
            unfamiliar=unfamiliar,
            model=model,
            version=version,
        )

    def __getitem__(self, factor: str) -> FactorResult:
        """Return one factor's results by name."""
        for result in self.factors:
            if result.name == factor:
                return result
        raise KeyError(f"no factor {factor!r}; the factors are {[f.name for f in self.factors]}")

    def __iter__(self) -> Iterator[FactorResult]:
        """Iterate over the factors."""
        return iter(self.factors)

    @property
    def u(self) -> FloatArray:
        """The class-related features of all factors side by side, [images, sum of u_dim]."""
        return np.concatenate([_requested(f.u_mean, "u_mean") for f in self.factors], axis=1)

    @property
    def probs(self) -> FloatArray:
        """q(c | x), [images, classes], of a model with one factor."""
        return _requested(self._only_factor("probs").probs, "probs")

    @property
    def classes(self) -> NDArray[np.str_]:
        """Name of the most probable class, [images], of a model with one factor."""
        return self._only_factor("classes").classes

    def to_dict(self) -> dict[str, list[Any]]:
        """Return columns with one value per image, as `to_pandas` names them."""
        return {name: values.tolist() for name, values in self._columns().items()}

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row per image; what was not requested has no columns.

        The columns have the names of the feature files of `partedvae extract`: for each factor `<factor>` (the most
        probable class), `<factor>_prob`, `<factor>_u0`…; then `z0`…, the scores and `unfamiliar`, which is missing for
        images like the training images. Log-variances are `<factor>_u_logvar0`… and `z_logvar0`….

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return _pandas_frame(self._columns())

    def __repr__(self) -> str:
        arrays = [a for f in self.factors for a in (f.probs, f.u_mean, f.u_logvar)]
        count = _count(*arrays, self.z, self.z_logvar, self.reconstruction_error, self.negative_elbo)
        parts = [plural(count, "image"), *(f._summary() for f in self.factors), f"model {self.model}/{self.version}"]
        return f"Features({', '.join(parts)})"

    def _columns(self) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {}
        for factor in self.factors:
            if factor.probs is not None:
                columns[factor.name] = factor.classes
                columns[f"{factor.name}_prob"] = factor.probs.max(axis=1)
            columns |= _numbered(f"{factor.name}_u", factor.u_mean)
            columns |= _numbered(f"{factor.name}_u_logvar", factor.u_logvar)
        columns |= _numbered("z", self.z) | _numbered("z_logvar", self.z_logvar)
        scores = {"reconstruction_error": self.reconstruction_error, "negative_elbo": self.negative_elbo}
        columns |= {name: values for name, values in scores.items() if values is not None}
        if self.unfamiliar is not None:
            columns["unfamiliar"] = np.array([text or None for text in self.unfamiliar.tolist()], dtype=object)
        return columns

    def _only_factor(self, attribute: str) -> FactorResult:
        if len(self.factors) != 1:
            names = [f.name for f in self.factors]
            raise ValueError(
                f"the model has {len(names)} factors: use features[name].{attribute} with a name from {names}"
            )
        return self.factors[0]


@dataclass(frozen=True, kw_only=True)
class ImageProblem:
    """An image that cannot be used."""

    index: int
    """Its position in the call."""
    name: str
    """Its file name; empty where it is not a file."""
    reason: str
    """What is wrong with it, and the remedy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureChunk:
    """Features of some of the images of a stream, and the problems of others."""

    features: Features | None
    """Features of the usable images, in order; None where there are none."""
    positions: Sequence[int]
    """For each row of the features, the position of its image in the call."""
    problems: tuple[ImageProblem, ...] = ()
    """The images that cannot be used, in order."""

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row per image, indexed by position; see `Features.to_pandas`.

        The column `error` has the problem of an image, and is missing (NaN) where there is none. `pandas.concat` joins
        the tables of a stream.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        errors = {problem.index: problem.reason for problem in self.problems}
        positions = sorted([*self.positions, *errors])
        frame = _pandas_frame(self.features._columns() if self.features else {}, index=list(self.positions))
        frame = frame.reindex(positions).rename_axis("position")
        return frame.assign(error=np.array([errors.get(position) for position in positions], dtype=object))

    def __repr__(self) -> str:
        parts = [f"positions {self.positions[0]} to {self.positions[-1]}"] if len(self.positions) else []
        parts += [plural(len(self.problems), "problem")] if self.problems else []
        parts += [repr(self.features)] if self.features else []
        return f"FeatureChunk({', '.join(parts)})"


def concatenate(parts: Sequence[Features]) -> Features:
    """Join the features of consecutive batches, in order.

    Raises:
        PartedVAEError: they come from different versions of the model, as when a server loads a new version during a
            call.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    versions = sorted({part.version for part in parts})
    if len(versions) > 1:
        raise PartedVAEError(
            f"model {first.model!r} changed from version {versions[0]} to {versions[-1]} during the call; "
            f"try again, or use one version with version={versions[-1]}"
        )
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
        unfamiliar=_join([p.unfamiliar for p in parts]),
        model=first.model,
        version=first.version,
    )


def shortened(values: Sequence[str]) -> str:
    """Return a list as text, with at most `SHOWN` values."""
    text = ", ".join(map(repr, values[:SHOWN]))
    return f"[{text}{', …' if len(values) > SHOWN else ''}]"


def plural(count: int, noun: str) -> str:
    """Return "1 image", "2 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _count(*arrays: FloatArray | None) -> int:
    return next((len(array) for array in arrays if array is not None), 0)


def _numbered(name: str, matrix: FloatArray | None) -> dict[str, NDArray[Any]]:
    return {} if matrix is None else {f"{name}{j}": column for j, column in enumerate(matrix.T)}


def _join(arrays: Sequence[NDArray[Scalar] | None]) -> NDArray[Scalar] | None:
    present = [a for a in arrays if a is not None]
    return np.concatenate(present) if present else None


def _requested(array: FloatArray | None, name: str) -> FloatArray:
    if array is None:
        raise ValueError(f"{name} was not requested: add it to include=")
    return array


def _pandas_frame(columns: dict[str, NDArray[Any]], index: list[int] | None = None) -> pd.DataFrame:
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        message = "to_pandas needs pandas, which is not installed; install it with: pip install pandas"
        raise ModuleNotFoundError(message, name="pandas") from error
    return pd.DataFrame(columns, index=index)
