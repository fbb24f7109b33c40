"""Version folders: which there are; and one of them, verified when it is seen, loaded and warmed when it is needed."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from partedvae.serving.bundle import Bundle, load_bundle, versions_of
from partedvae.serving.errors import BundleError, ServingError
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel

logger = logging.getLogger(__name__)

Stamp = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change of each file in a folder: what differs when somebody changes a version."""


def stamp_of(folder: Path) -> Stamp:
    """Describe the files of a version folder without reading them; empty when they cannot be seen."""
    try:
        with os.scandir(folder) as entries:
            facts = [(entry.name, entry.stat()) for entry in entries]
    except OSError:  # Deleted at this moment, or not to be read: `load_bundle` tells why.
        return ()
    return tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in facts))


def model_names(models_dir: Path) -> list[str]:
    """Return the names of the folders that hold versions, in order.

    Raises:
        BundleError: it is no folder.
    """
    if not models_dir.is_dir():
        raise BundleError(f"{models_dir} is not a folder of models; export a run into it with 'partedvae export'")
    folders = sorted(entry for entry in models_dir.iterdir() if not entry.name.startswith("."))
    return [folder.name for folder in folders if versions_of(folder)]


def check_models_dir(models_dir: Path) -> None:
    """Check that there is something to serve, and tell a model's own folder from a folder of models.

    Raises:
        BundleError: there is nothing; the remedy depends on what was found instead.
    """
    if model_names(models_dir):
        return
    if versions_of(models_dir):
        raise BundleError(
            f"{models_dir} is the folder of one model; serve the folder above it, {models_dir.resolve().parent}"
        )
    raise BundleError(f"{models_dir} holds no models; export a run into it with 'partedvae export'")


class Version:
    """One version folder. Safe to use from many threads at once."""

    def __init__(self, folder: Path, stamp: Stamp, device: Device, threads: int | None) -> None:
        """Read the manifest and verify the files; what is wrong becomes the reason.

        Args:
            folder: `<models>/<name>/<version>`.
            stamp: from `stamp_of`, taken before this: files that change while they are read are then read again.
            device: where to run; see `OnnxModel.load`.
            threads: threads of one run; see `OnnxModel.load`.
        """
        self.name = folder.parent.name
        self.number = int(folder.name)
        self.stamp = stamp
        self.reason = ""
        """Why the files cannot be used; empty when they can, as far as is known."""
        self._device: Device = device
        self._threads = threads
        self._lock = threading.Lock()
        self._bundle: Bundle | None = None
        self._runtime: OnnxModel | None = None
        try:
            self._bundle = load_bundle(folder)
        except BundleError as error:
            self._refuse(error)
        except OSError as error:
            self._refuse(BundleError(f"{folder} cannot be read: {error}"))

    @property
    def runtime(self) -> OnnxModel | None:
        """The runtime when it is loaded."""
        return self._runtime

    @property
    def ready(self) -> bool:
        """Whether it answers when it is asked."""
        return self._runtime is not None or not self.reason

    def load(self) -> OnnxModel:
        """Return the runtime; the first call opens the sessions and warms them, callers that come meanwhile wait.

        Raises:
            BundleError: it does not work. It is not tried again: the files must change first.
            DeviceError: the device asked for is not to be had.
        """
        with self._lock:
            if self._runtime is None:
                if self._bundle is None or self.reason:
                    raise BundleError(self.reason)
                try:
                    runtime = OnnxModel.load(self._bundle, self._device, self._threads)
                    runtime.warm_up()
                except ServingError as error:
                    self._refuse(error)
                    raise
                self._runtime = runtime
                logger.info("loaded %s version %d on %s", self.name, self.number, runtime.provider)
            return self._runtime

    def unload(self) -> None:
        """Let the runtime go: it ends with the last request that holds it."""
        with self._lock:
            if self._runtime is not None:
                logger.info("dropped %s version %d", self.name, self.number)
            self._runtime = None

    def outlive(self, stamp: Stamp, reason: str) -> None:
        """Go on with what is loaded, though the files were changed into something that does not work."""
        self.stamp = stamp
        self.reason = reason
        logger.warning("%s version %d goes on with what was loaded before its files changed", self.name, self.number)

    def _refuse(self, error: ServingError) -> None:
        self.reason = str(error)
        logger.warning("refused: %s", error)
