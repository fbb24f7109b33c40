"""Loads one model by its folder, without a repository."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from partedvae.common.retry import Retries
from partedvae.common.suggest import did_you_mean
from partedvae.serving.bundle import read_bundle
from partedvae.serving.bundle_files import list_versions, versions_of
from partedvae.serving.errors import BundleError
from partedvae.serving.manifest import MANIFEST_FILE
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.onnx.precision import Precision
from partedvae.serving.repository.folders import folders_of_models, list_models

logger = logging.getLogger(__name__)

SKIPPED_SHOWN = 3
"""Entries of a folder without versions that its error explains."""


def load_model(
    path: Path,
    version: int = 0,
    *,
    device: Device = "auto",
    threads: int | None = None,
    precision: Precision = "fp32",
) -> OnnxModel:
    """Load and warm up one model.

    Args:
        path: a model's folder `<models>/<name>`, or one of its version folders `<models>/<name>/<version>`.
        version: the version to load from a model's folder; 0 loads the newest that works.
        device: see `OnnxModel.load`.
        threads: see `OnnxModel.load`.
        precision: see `OnnxModel.load`.

    Raises:
        BundleError: the folder is neither, the version does not exist, or none works.
        DeviceError: the requested device is not available.
    """

    def load(folder: Path) -> OnnxModel:
        return _load(folder, device, threads, precision)

    folder = Path(os.path.realpath(path))  # "." has no name; Path.resolve fails for links to themselves.
    if os.path.lexists(folder / MANIFEST_FILE):
        if version and str(version) != folder.name:
            raise BundleError(f"{folder} is version {folder.name} of model {folder.parent.name!r}, not {version}")
        return load(folder)
    try:
        versions = versions_of(folder)
    except OSError as error:
        raise BundleError(f"{folder} cannot be listed: {error.strerror}; check the path and its permissions") from error
    if not versions:
        raise BundleError(_not_a_model(folder))
    if version:
        if version not in versions:
            raise BundleError(f"model {folder.name!r} has no version {version}: there are {versions}")
        return load(folder / str(version))
    newest_error = None
    for number in reversed(versions):
        try:
            model = load(folder / str(number))
        except BundleError as error:
            newest_error = newest_error or error
            continue
        if newest_error is not None:
            logger.warning("loaded version %d of %s, because newer ones do not work: %s", number, path, newest_error)
        return model
    assert newest_error is not None
    raise newest_error


def _load(folder: Path, device: Device, threads: int | None, precision: Precision) -> OnnxModel:
    try:
        model = Retries()(lambda: OnnxModel.load(read_bundle(folder), device, threads, precision))
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {error}") from error
    model.warm_up()
    return model


def _not_a_model(folder: Path) -> str:
    if os.path.lexists(folder.parent / MANIFEST_FILE):
        return f"{folder} is a part of a model; pass the folder of the model, {folder.parent.parent}"
    if not folder.is_dir():
        for models in folders_of_models(folder.parent):
            if folder.name in list_models(models).versions:
                return f"{folder} is not a folder; did you mean {str(models / folder.name)!r}?"
        known = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        hint = (
            did_you_mean(folder.name, known) or "; pass the folder of a model, or export a run with 'partedvae export'"
        )
        return f"{folder} is not a folder{hint}"
    names = list(list_models(folder).versions)
    if names:
        return f"{folder} holds the models {names}; pass the folder of one, such as {folder / names[0]}"
    below = folders_of_models(folder)
    if below:
        model = below[0] / next(iter(list_models(below[0]).versions))
        return f"{folder} is not a model, but {below[0]} holds models; pass the folder of one, such as {model}"
    skipped = "".join(f"; {name!r} is skipped, because {reason}" for name, reason in _some_skipped(folder))
    return f"{folder} holds no version of a model; export a run with 'partedvae export'{skipped}"


def _some_skipped(folder: Path) -> list[tuple[str, str]]:
    return list(list_versions(folder).skipped.items())[:SKIPPED_SHOWN]
