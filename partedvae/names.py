"""The names that a user gives for outputs and classes, turned into what the contract says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from partedvae.common.suggest import did_you_mean
from partedvae.errors import InvalidRequestError
from partedvae.v1.manifest_pb2 import Manifest
from partedvae.v1.service_pb2 import FeatureOutput

FeatureName: TypeAlias = Literal[
    "probs", "u_mean", "u_logvar", "z_mean", "z_logvar", "reconstruction_error", "negative_elbo"
]
DEFAULT_INCLUDE: tuple[FeatureName, ...] = ("probs", "u_mean")
"""The class-related part."""


def feature_outputs(include: Iterable[FeatureName]) -> list[FeatureOutput.ValueType]:
    """Return the wire's names of what to return.

    Raises:
        InvalidRequestError: a name is unknown, or there is none.
    """
    known = get_args(FeatureName)
    names = list(include)
    if not names:
        raise InvalidRequestError(f"include names nothing to return; it takes some of {', '.join(known)}")
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"; it takes some of {', '.join(known)}"
            raise InvalidRequestError(f"include has {name!r}, which is no feature output{hint}")
    return [FeatureOutput.Value(f"FEATURE_OUTPUT_{name.upper()}") for name in names]


def class_by_factor(manifest: Manifest, text: str) -> Mapping[str, str]:
    """Read "NAME" or "factor=NAME" as a class of one factor, {factor: class name}.

    Raises:
        InvalidRequestError: no factor has such a class, or several have it.
    """
    classes = {factor.name: list(factor.class_names) for factor in manifest.factors}
    factor, equals, name = text.partition("=")
    if equals and factor in classes:
        if name in classes[factor]:
            return {factor: name}
        raise InvalidRequestError(_no_class(name, f"factor {factor!r}", classes[factor]))
    owners = [factor for factor, names in classes.items() if text in names]
    if len(owners) == 1:
        return {owners[0]: text}
    if owners:
        examples = " or ".join(f"'{owner}={text}'" for owner in owners[:2])
        raise InvalidRequestError(f"{text!r} is a class of {len(owners)} factors; write {examples}")
    known = [name for names in classes.values() for name in names]
    raise InvalidRequestError(_no_class(text, "the model", known))


def _no_class(name: str, owner: str, known: Sequence[str]) -> str:
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"{owner} has no class {name!r}: it has {shown}{did_you_mean(name, known)}"
