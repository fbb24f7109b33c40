"""Names of models in a folder, stamps of version folders, and `Version`, which loads one on first use."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from partedvae.common.suggest import nearest
from partedvae.serving.bundle import MANIFEST_FILE, Bundle, load_bundle, versions_of
from partedvae.serving.errors import BundleError, ServingError
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel

logger = logging.getLogger(__name__)

Stamp = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and modification time of each file in a folder, to detect changes."""


def stamp_of(folder: Path) -> Stamp:
    """Describe the files of a version folder without reading them; empty if the folder cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            facts = [(entry.name, entry.stat()) for entry in entries]
    except OSError:  # Deleted just now, or not readable: `load_bundle` reports the reason.
        return ()
    return tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in facts))


def model_names(models_dir: Path) -> list[str]:
    """Return the names of the folders that hold versions, in order.

    Raises:
        BundleError: it is not a folder.
    """
    if not models_dir.is_dir():
        remedy = _nearest_folder(models_dir) or "export a run into it with 'partedvae export'"
        raise BundleError(f"{models_dir} is not a folder of models; {remedy}")
    folders = sorted(entry for entry in models_dir.iterdir() if not entry.name.startswith("."))
    return [folder.name for folder in folders if versions_of(folder)]


def check_models_dir(models_dir: Path) -> None:
    """Check that a folder holds models.

    Raises:
        BundleError: it does not; the message suggests the folder of models that is above or below it.
    """
    if model_names(models_dir):
        return
    above = models_dir.resolve().parent
    if (models_dir / MANIFEST_FILE).is_file():
        raise BundleError(f"{models_dir} is one version of a model; serve the folder of models, {above.parent}")
    if versions_of(models_dir):
        raise BundleError(f"{models_dir} is the folder of one model; serve the folder above it, {above}")
    below = folders_of_models(models_dir)
    if below:
        raise BundleError(f"{models_dir} holds no models, but {below[0]} does; serve that folder")
    raise BundleError(f"{models_dir} holds no models; export a run into it with 'partedvae export'")


def folders_of_models(folder: Path) -> list[Path]:
    """Return the folders directly in a folder that hold models, in order; none if it cannot be listed."""
    try:
        inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        return [entry for entry in inside if model_names(entry)]
    except OSError:
        return []


def _nearest_folder(folder: Path) -> str:
    """Return a suggestion for a misspelt folder of models; empty where none beside it has a similar name."""
    near = nearest(folder.name, [entry.name for entry in folders_of_models(folder.parent)])
    return f"did you mean {str(folder.parent / near)!r}?" if near else ""


class Version:
    """One version folder. Can be used from several threads."""

    def __init__(self, folder: Path, stamp: Stamp, device: Device, threads: int | None, known_reason: str = "") -> None:
        """Read the manifest and verify the files; a failure sets `reason` instead of raising.

        Args:
            folder: `<models>/<name>/<version>`.
            stamp: from `stamp_of`, taken earlier, so that files that change while they are read are read again.
            device: see `OnnxModel.load`.
            threads: see `OnnxModel.load`.
            known_reason: why an earlier attempt failed; failing for the same reason is not logged again.
        """
        self.name = folder.parent.name
        self.number = int(folder.name)
        self.stamp = stamp
        self.reason = ""
        """Why the files cannot be used, without the path of the models folder; empty if no failure is known."""
        self.may_recover = False
        """Whether that is an error of the operating system, such as of a network file system or of permissions, which
        may pass although the files stay the same."""
        self._known_reason = known_reason
        self._models_dir = folder.parents[1]
        self._device: Device = device
        self._threads = threads
        self._lock = threading.Lock()
        self._bundle: Bundle | None = None
        self._model: OnnxModel | None = None
        try:
            self._bundle = load_bundle(folder)
        except BundleError as error:
            self._refuse(error, may_recover=isinstance(error.__cause__, OSError))
        except OSError as error:
            self._refuse(BundleError(f"{folder} cannot be read: {error}"), may_recover=True)

    @property
    def model(self) -> OnnxModel | None:
        """The model if it is loaded."""
        return self._model

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return self._model is not None or not self.reason

    def load(self) -> OnnxModel:
        """Return the model; the first call loads it and warms it up, and concurrent calls wait.

        Raises:
            BundleError: it does not work. Loading is not tried again until the files change, or can be read again.
            DeviceError: the requested device is not available.
        """
        with self._lock:
            if self._model is None:
                if self._bundle is None or self.reason:
                    raise BundleError(self.reason)
                try:
                    model = OnnxModel.load(self._bundle, self._device, self._threads)
                    model.warm_up()
                except ServingError as error:
                    # ONNX Runtime opens the files itself, and does not say whether it could read them.
                    self._refuse(error, may_recover=not _can_be_read(self._bundle.folder))
                    raise type(error)(self.reason) from error
                self._model = model
                logger.info("loaded %s version %d on %s", self.name, self.number, model.provider)
                for warning in model.manifest.warnings:
                    logger.warning("%s version %d: %s", self.name, self.number, warning)
            return self._model

    def unload(self) -> None:
        """Drop the model; it is freed with the last request that uses it."""
        with self._lock:
            if self._model is not None:
                logger.info("unloaded %s version %d", self.name, self.number)
            self._model = None

    def keep_loaded(self, changed: Version) -> None:
        """Keep the loaded model although its files were replaced by others that do not work.

        Args:
            changed: the version of the new files.
        """
        self.stamp = changed.stamp
        if self.reason != changed.reason:
            logger.warning(
                "%s version %d stays as loaded, because its changed files do not work", self.name, self.number
            )
        self.reason, self.may_recover = changed.reason, changed.may_recover

    def _refuse(self, error: ServingError, *, may_recover: bool) -> None:
        # Callers of the server get the reason, and the paths of its machine are none of their business.
        self.reason = str(error).replace(f"{self._models_dir}{os.sep}", "")
        self.may_recover = may_recover
        if self.reason != self._known_reason:
            logger.warning("refused: %s", error)


def _can_be_read(folder: Path) -> bool:
    """Return whether the operating system can read the files of a version folder."""
    try:
        for path in folder.iterdir():
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass
    except OSError:
        return False
    return True
