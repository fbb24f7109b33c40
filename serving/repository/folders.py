"""The folder of models: the models and versions in it, and what else is in it, with the reason for skipping it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from partedvae.common.retry import Retries
from partedvae.common.suggest import nearest
from partedvae.serving.bundle_files import NOT_A_FOLDER, list_versions
from partedvae.serving.errors import BundleError
from partedvae.serving.manifest import MANIFEST_FILE

NO_RETRIES = Retries(limit=0)
REASONS_SHOWN = 3
"""Skipped entries in the error of a folder without models."""


@dataclass(frozen=True)
class Listing:
    """What a folder of models has."""

    versions: Mapping[str, tuple[int, ...]]
    """Versions, oldest first, by the model's name, in order."""
    unreadable: frozenset[str]
    """Names of folders that could not be listed, which may pass."""
    skipped: Mapping[str, str]
    """Why other entries are not used, by path below the folder."""


def list_models(models_dir: Path, retry: Retries | None = None) -> Listing:
    """List the models of a folder; whatever else is there, and whatever cannot be read, is skipped with a reason.

    Args:
        models_dir: the folder `<models>`.
        retry: repeats reading after errors that may pass; None tries once.

    Raises:
        BundleError: it is not a folder, or cannot be listed.
    """
    try:
        return _list(models_dir, retry or NO_RETRIES)
    except (FileNotFoundError, NotADirectoryError):
        remedy = _nearest_folder(models_dir) or "export a run into it with 'partedvae export'"
        raise BundleError(f"{models_dir} is not a folder of models; {remedy}") from None
    except OSError as error:
        raise BundleError(
            f"{models_dir} cannot be listed: {error.strerror}; check the path and its permissions"
        ) from error


def list_served_models(models_dir: Path, retry: Retries) -> Listing:
    """List the models of a folder that has to have some; see `list_models`.

    Raises:
        BundleError: it has none, or cannot be listed; the message suggests a folder of models above or below it.
    """
    listing = list_models(models_dir, retry)
    if listing.versions:
        return listing
    above = models_dir.resolve().parent
    if os.path.lexists(models_dir / MANIFEST_FILE):
        raise BundleError(f"{models_dir} is one version of a model; serve the folder of models, {above.parent}")
    if retry(lambda: list_versions(models_dir)).versions:
        raise BundleError(f"{models_dir} is the folder of one model; serve the folder above it, {above}")
    below = folders_of_models(models_dir)
    if below:
        raise BundleError(f"{models_dir} holds no models, but {below[0]} does; serve that folder")
    reasons = [f"{name!r} is skipped, because {reason}" for name, reason in listing.skipped.items()]
    more = "".join(f"; {reason}" for reason in reasons[:REASONS_SHOWN])
    raise BundleError(f"{models_dir} holds no models; export a run into it with 'partedvae export'{more}")


def folders_of_models(folder: Path) -> list[Path]:
    """Return the folders directly in a folder that hold models, in order; none if it cannot be listed."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
    found = []
    for name in names:
        with suppress(OSError):
            if _list(folder / name, NO_RETRIES).versions:
                found.append(folder / name)
    return found


def _list(models_dir: Path, retry: Retries) -> Listing:
    names = retry(lambda: sorted(entry.name for entry in models_dir.iterdir()))
    versions: dict[str, tuple[int, ...]] = {}
    unreadable, skipped = set(), {}
    for name in names:
        if name.startswith("."):
            continue
        if not name.isprintable():  # Undecodable bytes fit into no message, and newlines into no line of the log.
            skipped[name] = "its name is not printable text; rename it"
            continue
        try:
            folder = retry(partial(list_versions, models_dir / name))
        except OSError as error:
            skipped[name] = NOT_A_FOLDER.get(error.errno or 0, "") or f"it cannot be listed: {error.strerror}"
            if error.errno not in NOT_A_FOLDER:
                unreadable.add(name)
            continue
        if folder.versions:
            versions[name] = folder.versions
            skipped |= {f"{name}/{entry}": reason for entry, reason in folder.skipped.items()}
        elif folder.skipped:
            entry, reason = next(iter(folder.skipped.items()))
            skipped[name] = f"it has no version; {entry!r} is skipped, because {reason}"
    return Listing(versions, frozenset(unreadable), skipped)


def _nearest_folder(folder: Path) -> str:
    """Return a suggestion for a misspelt folder of models; empty where none beside it has a similar name."""
    near = nearest(folder.name, [entry.name for entry in folders_of_models(folder.parent)])
    return f"did you mean {str(folder.parent / near)!r}?" if near else ""
