"""The models of a folder `<models>/<name>/<version>/`: which there are, which one answers, and why others do not."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from partedvae.nearest import did_you_mean
from serving.bundle import MANIFEST_FILE, Bundle, load_bundle, versions_of
from serving.errors import BundleError, InvalidInputError, ModelNotFoundError
from serving.runtime import Runtime
from serving.sessions import Device

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version of one model."""

    name: str
    version: int
    reason: str
    """Why it is broken; empty when it answers."""
    is_default: bool
    """Whether it is the one that answers when no version is named."""


class ModelRepository:
    """All models of a folder. The newest working version of each is loaded at once, others when they are asked for.

    Safe to use from many threads at once.
    """

    def __init__(self, models_dir: Path, device: Device = "auto", threads: int | None = None) -> None:
        """Scan the folder and load.

        Raises:
            BundleError: there is no model that works.
            DeviceError: CUDA was asked for and is not to be had.
        """
        self._models = {
            name: [
                _Version(models_dir / name / str(number), device, threads) for number in versions_of(models_dir / name)
            ]
            for name in _model_names(models_dir)
        }
        self._default = {name: _newest_working(versions) for name, versions in self._models.items()}
        if not any(self._default.values()):
            reasons = "; ".join(s.reason for s in self.statuses())
            raise BundleError(f"no model in {models_dir} works: {reasons}")

    def statuses(self) -> list[VersionStatus]:
        """Return all versions of all models, by name and version."""
        return [
            VersionStatus(
                name=name,
                version=version.number,
                reason=version.reason,
                is_default=version is self._default[name],
            )
            for name, versions in self._models.items()
            for version in versions
        ]

    def get(self, name: str = "", version: int = 0) -> Runtime:
        """Return a model, loaded.

        Args:
            name: of the model; empty means the only one.
            version: of the model; 0 means the newest that works.

        Raises:
            InvalidInputError: no name, and there are several models.
            ModelNotFoundError: there is no such model or version.
            BundleError: there is one, and it does not work.
        """
        names = list(self._models)
        if not name and len(names) > 1:
            raise InvalidInputError(f"there are several models, name one of {names}")
        name = name or names[0]
        if name not in self._models:
            raise ModelNotFoundError(f"no model is named {name!r}: there are {names}{did_you_mean(name, names)}")
        if not version:
            default = self._default[name]
            if default is None:
                raise BundleError(f"no version of model {name!r} works: {self._models[name][-1].reason}")
            return default.load()
        for candidate in self._models[name]:
            if candidate.number == version:
                return candidate.load()
        numbers = [candidate.number for candidate in self._models[name]]
        raise ModelNotFoundError(f"model {name!r} has no version {version}: there are {numbers}")


def load_model(folder: Path, device: Device = "auto", threads: int | None = None) -> Runtime:
    """Load one model without a repository: the newest version of `<models>/<name>`, or a version folder itself.

    Raises:
        BundleError: there is none, or it does not work.
        DeviceError: CUDA was asked for and is not to be had.
    """
    folder = folder.resolve()  # "." has no name
    if not (folder / MANIFEST_FILE).exists():
        versions = versions_of(folder)
        if not versions:
            raise BundleError(f"{folder} holds no version of a model; export a run with 'partedvae export'")
        folder /= str(versions[-1])
    return Runtime.load(load_bundle(folder), device, threads)


class _Version:
    """One version folder: verified at once, loaded when it is first asked for, kept ever after."""

    def __init__(self, folder: Path, device: Device, threads: int | None) -> None:
        self.number = int(folder.name)
        self.reason = ""
        self._device: Device = device
        self._threads = threads
        self._lock = threading.Lock()
        self._bundle: Bundle | None = None
        self._runtime: Runtime | None = None
        try:
            self._bundle = load_bundle(folder)
        except BundleError as error:
            self.reason = str(error)
            logger.warning("refused: %s", error)

    def load(self) -> Runtime:
        """Return the runtime; the first call opens the sessions, callers that come meanwhile wait for it."""
        with self._lock:
            if self._runtime is None:
                if self._bundle is None or self.reason:
                    raise BundleError(self.reason)
                try:
                    self._runtime = Runtime.load(self._bundle, self._device, self._threads)
                except BundleError as error:
                    self.reason = str(error)
                    logger.warning("refused: %s", error)
                    raise
                logger.info("loaded %s version %d on %s", self._runtime.name, self.number, self._runtime.provider)
            return self._runtime


def _newest_working(versions: list[_Version]) -> _Version | None:
    for version in reversed(versions):
        try:
            version.load()
        except BundleError:
            continue
        return version
    return None


def _model_names(models_dir: Path) -> list[str]:
    """Return the names of the folders that hold versions."""
    if not models_dir.is_dir():
        raise BundleError(f"{models_dir} is not a folder of models; export a run into it with 'partedvae export'")
    folders = sorted(entry for entry in models_dir.iterdir() if not entry.name.startswith("."))
    names = [folder.name for folder in folders if versions_of(folder)]
    if not names and versions_of(models_dir):
        raise BundleError(
            f"{models_dir} is the folder of one model; serve the folder above it, {models_dir.resolve().parent}"
        )
    if not names:
        raise BundleError(f"{models_dir} holds no models; export a run into it with 'partedvae export'")
    return names
