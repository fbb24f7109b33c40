"""The table of models and versions: what is served, its states, and lookups with errors that list what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from partedvae.common.suggest import did_you_mean, shortened
from partedvae.serving.errors import BundleError, InvalidInputError, ModelNotFoundError
from partedvae.serving.repository.versions import Version

SHOWN = 20
"""Names or versions in an error: a folder may have thousands."""


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """State of one version of one model."""

    name: str
    version: int
    ready: bool
    """Whether it can be used."""
    reason: str
    """Why its files cannot be used; empty if they can. A version loaded before its files were damaged stays ready."""
    is_default: bool
    """Whether it is used when a request names no version."""
    provider: str
    """ONNX Runtime's execution provider that it runs on; empty if it is not loaded."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """The versions of one model."""

    versions: Mapping[int, Version]
    """By number, oldest first; at least one."""
    default: Version | None
    """The newest that works, loaded; None if none does."""


def statuses_of(models: Mapping[str, ServedModel]) -> list[VersionStatus]:
    """Return the states of all versions, by name and version."""
    return [
        VersionStatus(
            name=name,
            version=version.number,
            ready=version.ready,
            reason=version.reason,
            is_default=version is model.default,
            provider=onnx_model.provider if (onnx_model := version.model) else "",
        )
        for name, model in models.items()
        for version in model.versions.values()
    ]


def find(models: Mapping[str, ServedModel], name: str, number: int) -> Version:
    """Return a version that works, as far as is known.

    Args:
        models: by name.
        name: the model's name; empty means the only one.
        number: its version; 0 means the default.

    Raises:
        InvalidInputError: the name is empty, and there are several models; or the number is negative.
        ModelNotFoundError: the model or version does not exist.
        BundleError: it does not work.
    """
    if number < 0:
        raise InvalidInputError(f"version {number} is negative; choose a version, or 0 for the newest that works")
    names = list(models)
    if not names:
        raise ModelNotFoundError(
            "there are no models: export one into the folder of the server with 'partedvae export'"
        )
    if not name and len(names) > 1:
        raise InvalidInputError(f"there are several models; choose one of {_some(names)}")
    name = name or names[0]
    if name not in models:
        raise ModelNotFoundError(
            f"no model is named {shortened(name)!r}: there are {_some(names)}{did_you_mean(name, names)}"
        )
    versions, default = models[name].versions, models[name].default
    if not number:
        if default is None:
            raise BundleError(f"no version of model {name!r} works: {versions[max(versions)].reason}")
        return default
    if number not in versions:
        raise ModelNotFoundError(f"model {name!r} has no version {number}: there are {_some(list(versions))}")
    version = versions[number]
    if not version.ready:
        raise BundleError(version.reason)
    return version


def _some(items: Sequence[object]) -> str:
    """Return a list of names or versions, without those in the middle where there are many."""
    if len(items) <= SHOWN:
        return str(list(items))
    first, last = str(list(items[: SHOWN // 2])), str(list(items[-SHOWN // 2 :]))
    return f"{first[:-1]}, …, {last[1:]} ({len(items)} in all)"
