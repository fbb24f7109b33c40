"""Loads one model by its folder, without a repository."""

from __future__ import annotations

import logging
from pathlib import Path

from partedvae.common.retry import Retries
from partedvae.common.suggest import did_you_mean
from partedvae.serving.bundle import MANIFEST_FILE, load_bundle, versions_of
from partedvae.serving.errors import BundleError
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository.versions import folders_of_models, model_names

logger = logging.getLogger(__name__)


def load_model(path: Path, version: int = 0, *, device: Device = "auto", threads: int | None = None) -> OnnxModel:
    """Load and warm up one model.

    Args:
        path: a model's folder `<models>/<name>`, or one of its version folders `<models>/<name>/<version>`.
        version: the version to load from a model's folder; 0 loads the newest that works.
        device: see `OnnxModel.load`.
        threads: see `OnnxModel.load`.

    Raises:
        BundleError: the folder is neither, the version does not exist, or none works.
        DeviceError: the requested device is not available.
    """
    folder = path.resolve()  # "." has no name.
    if (folder / MANIFEST_FILE).exists():
        if version and str(version) != folder.name:
            raise BundleError(f"{folder} is version {folder.name} of model {folder.parent.name!r}, not {version}")
        return _load(folder, device, threads)
    versions = versions_of(folder)
    if not versions:
        raise BundleError(_not_a_model(folder))
    if version:
        if version not in versions:
            raise BundleError(f"model {folder.name!r} has no version {version}: there are {versions}")
        return _load(folder / str(version), device, threads)
    newest_error = None
    for number in reversed(versions):
        try:
            model = _load(folder / str(number), device, threads)
        except BundleError as error:
            newest_error = newest_error or error
            continue
        if newest_error is not None:
            logger.warning("loaded version %d of %s, because newer ones do not work: %s", number, path, newest_error)
        return model
    assert newest_error is not None
    raise newest_error


def _load(folder: Path, device: Device, threads: int | None) -> OnnxModel:
    try:
        model = OnnxModel.load(Retries()(lambda: load_bundle(folder)), device, threads)
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {error}") from error
    model.warm_up()
    return model


def _not_a_model(folder: Path) -> str:
    if (folder.parent / MANIFEST_FILE).is_file():
        return f"{folder} is a part of a model; pass the folder of the model, {folder.parent.parent}"
    if not folder.is_dir():
        for models in folders_of_models(folder.parent):
            if folder.name in model_names(models):
                return f"{folder} is not a folder; did you mean {str(models / folder.name)!r}?"
        known = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        hint = (
            did_you_mean(folder.name, known) or "; pass the folder of a model, or export a run with 'partedvae export'"
        )
        return f"{folder} is not a folder{hint}"
    names = model_names(folder)
    if names:
        return f"{folder} holds the models {names}; pass the folder of one, such as {folder / names[0]}"
    below = folders_of_models(folder)
    if below:
        model = below[0] / model_names(below[0])[0]
        return f"{folder} is not a model, but {below[0]} holds models; pass the folder of one, such as {model}"
    return f"{folder} holds no version of a model; export a run with 'partedvae export'"
