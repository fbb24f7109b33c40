"""Classes of a request: from what callers write to one class per factor."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from partedvae.common.suggest import did_you_mean
from partedvae.errors import InvalidRequestError
from partedvae.v1.manifest_pb2 import Manifest

ClassSpec: TypeAlias = Mapping[str, str] | str | Sequence[str]
"""{factor: class}; one class as "NAME" or "factor=NAME"; or several of those, of different factors."""

_SHOWN = 20
"""Number of names that an error lists."""


def class_by_factor(spec: ClassSpec, manifest: Manifest | None) -> Mapping[str, str]:
    """Return {factor: class}.

    Args:
        spec: as the caller wrote it.
        manifest: the model's, needed where `spec` is not a mapping.

    Raises:
        InvalidRequestError: it is of another type, no factor has such a class, several factors have it, or a factor has
            two classes.
    """
    if isinstance(spec, Mapping):
        for name in (*spec, *spec.values()):
            if not isinstance(name, str):
                raise InvalidRequestError(
                    f"classes has {name!r}, which is not a str: names of factors and classes are text, such as "
                    "{'digit': '7'}"
                )
        return spec
    assert manifest is not None
    chosen: dict[str, str] = {}
    for factor, name in (_factor_and_class(text, manifest) for text in _texts(spec)):
        if factor in chosen:
            raise InvalidRequestError(
                f"{chosen[factor]!r} and {name!r} are both classes of {factor!r}, and an image has one class per "
                "factor: request them one after the other"
            )
        chosen[factor] = name
    return chosen


def class_rows(specs: Sequence[ClassSpec]) -> Sequence[ClassSpec]:
    """Return the classes of a transfer, one entry per row.

    Raises:
        InvalidRequestError: they are not a list, such as a single class, whose letters would be rows.
    """
    if isinstance(specs, str | bytes) or not isinstance(specs, Sequence):
        raise InvalidRequestError(f"classes is {specs!r}; pass a list with one entry per row, such as [{specs!r}]")
    return specs


def classes_by_factor(texts: Sequence[str], manifest: Manifest) -> dict[str, list[str]]:
    """Return the classes of each factor, in their order.

    Args:
        texts: classes as "NAME" or "factor=NAME".
        manifest: the model's.

    Raises:
        InvalidRequestError: no factor has such a class, or several factors have it.
    """
    choices: dict[str, list[str]] = {}
    for factor, name in (_factor_and_class(text, manifest) for text in texts):
        choices.setdefault(factor, []).append(name)
    return choices


def class_combinations(texts: Sequence[str], manifest: Manifest) -> list[Mapping[str, str]]:
    """Return {factor: class} for each combination of classes: those of one factor alternate, factors are combined.

    "shape=heart", "shape=square" and "colour=red" are two combinations: a red heart and a red square.

    Args:
        texts: classes as "NAME" or "factor=NAME".
        manifest: the model's.

    Returns:
        The combinations, those of the factor that is named first outermost; none without `texts`.

    Raises:
        InvalidRequestError: no factor has such a class, or several factors have it.
    """
    if not texts:
        return []
    choices = classes_by_factor(texts, manifest)
    return [dict(zip(choices, names, strict=True)) for names in itertools.product(*choices.values())]


def class_label(classes: Mapping[str, str], manifest: Manifest) -> str:
    """Return a label for a picture: "7", or "shape=heart, colour=red" where the model has several factors."""
    several = len(manifest.factors) > 1
    return ", ".join(f"{factor}={name}" if several else name for factor, name in classes.items())


def _texts(spec: object) -> Sequence[str]:
    texts = [spec] if isinstance(spec, str) else spec
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequestError(
            f"classes is {spec!r}; pass {{factor: class}}, a class as 'NAME' or 'factor=NAME', or a list of those"
        )
    return texts


def _factor_and_class(text: str, manifest: Manifest) -> tuple[str, str]:
    """Return factor and class of "NAME" or "factor=NAME"."""
    classes = {factor.name: list(factor.class_names) for factor in manifest.factors}
    # Names may have "=" too.
    named = [(factor, text.removeprefix(f"{factor}=")) for factor in classes if text.startswith(f"{factor}=")]
    for factor, name in named:
        if name in classes[factor]:
            return factor, name
    for factor, name in named:
        raise InvalidRequestError(_unknown(f"factor {factor!r}", "class", name, classes[factor]))
    owners = [factor for factor, names in classes.items() if text in names]
    if len(owners) == 1:
        return owners[0], text
    if owners:
        examples = " or ".join(f"'{owner}={text}'" for owner in owners[:2])
        raise InvalidRequestError(f"{text!r} is a class of {len(owners)} factors; write {examples}")
    factor, equals, _ = text.partition("=")
    if equals:
        raise InvalidRequestError(_unknown("the model", "factor", factor, list(classes)))
    known = [name for names in classes.values() for name in names]
    raise InvalidRequestError(_unknown("the model", "class", text, known))


def _unknown(owner: str, kind: str, name: str, known: Sequence[str]) -> str:
    shown = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    plural = "classes" if kind == "class" else "factors"
    return f"{owner} has no {kind} {name!r}; its {plural} are {shown}{did_you_mean(name, known)}"
