"""One version of a model: the stamp of its folder, and `Version`, which verifies it and loads it on first use."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from partedvae.common.retry import Retries
from partedvae.common.suggest import shortened
from partedvae.serving.bundle import GRAPH_FILES, OPTIONAL_GRAPH_FILES, load_bundle, read_bundle
from partedvae.serving.errors import BundleError, DeviceError, ServingError
from partedvae.serving.manifest import MANIFEST_FILE
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.onnx.precision import Precision

logger = logging.getLogger(__name__)

MAX_REASON = 2000
"""Characters of a reason: ONNX Runtime's messages have names of the graph, which may be of any length."""

Stamp = tuple[tuple[int, ...], ...]
"""Facts about each file of a version that change with its content or its permissions."""


def stamp_of(folder: Path) -> Stamp:
    """Describe the files of a version folder without reading or listing it."""
    return tuple(_facts(folder / name) for name in (MANIFEST_FILE, *GRAPH_FILES, *OPTIONAL_GRAPH_FILES))


def _facts(path: Path) -> tuple[int, ...]:
    """Return inode, size, and the times when content and permissions changed, or the error's number."""
    try:
        info = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


class Version:
    """One version folder. Can be used from several threads."""

    def __init__(
        self,
        folder: Path,
        stamp: Stamp,
        device: Device,
        threads: int | None,
        *,
        precision: Precision = "fp32",
        retry: Retries,
        known_reason: str = "",
    ) -> None:
        """Read the manifest and verify the files; a failure sets `reason` instead of raising.

        Args:
            folder: `<models>/<name>/<version>`.
            stamp: from `stamp_of`, taken earlier, so that files that change while they are read are read again.
            device: see `OnnxModel.load`.
            threads: see `OnnxModel.load`.
            precision: see `OnnxModel.load`.
            retry: repeats reading after errors that may pass.
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
        self._precision: Precision = precision
        self._lock = threading.Lock()
        self._folder = folder
        self._model: OnnxModel | None = None
        try:
            retry(lambda: load_bundle(folder))
        except Exception as error:  # Whatever a bundle causes must not keep others from being served.
            self._refuse(error)

    @property
    def model(self) -> OnnxModel | None:
        """The model if it is loaded."""
        return self._model

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return self._model is not None or not self.reason

    def load(self) -> OnnxModel:
        """Return the model; the first call reads, verifies and loads it and warms it up, and concurrent calls wait.

        Raises:
            BundleError: it does not work. Loading is not tried again until the files change, or can be read again.
            DeviceError: the requested device is not available.
        """
        with self._lock:
            if self._model is None:
                if self.reason:
                    raise BundleError(self.reason)
                try:
                    model = Retries()(self._load)
                    model.warm_up()
                except Exception as error:  # As above.
                    self._refuse(error)
                    raise (DeviceError if isinstance(error, DeviceError) else BundleError)(self.reason) from error
                self._model = model
                logger.info("loaded %s version %d on %s, %s", self.name, self.number, model.provider, model.precision)
                for warning in model.manifest.warnings:
                    logger.warning("%s version %d: %s", self.name, self.number, warning)
            return self._model

    def _load(self) -> OnnxModel:
        # The manifest is read again: the files may have been replaced since they were verified.
        return OnnxModel.load(read_bundle(self._folder), self._device, self._threads, self._precision)

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

    def _refuse(self, error: Exception) -> None:
        self.may_recover = isinstance(error, OSError | MemoryError)
        if not isinstance(error, ServingError):
            kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
            remedy = "it is read again until it can be" if self.may_recover else "export the run again"
            error = BundleError(f"{self._folder} cannot be read: {kind}{error}; {remedy}")
        # Callers of the server get the reason, and the paths of its machine are none of their business.
        self.reason = shortened(str(error).replace(f"{self._models_dir}{os.sep}", ""), MAX_REASON)
        if self.reason != self._known_reason:
            logger.warning("refused: %s", shortened(str(error), MAX_REASON))
