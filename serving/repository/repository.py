"""The model repository: a folder `<models>/<name>/<version>/`, which versions it has, and which one is the default.

The table of models is immutable and replaced as a whole, so that a request sees the old one or the new one. A new
version is verified, loaded and warmed up before a table with it replaces the old one; the version that it succeeds is
freed with the last request that uses it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from partedvae.common.suggest import did_you_mean
from partedvae.serving.bundle import versions_of
from partedvae.serving.errors import BundleError, DeviceError, InvalidInputError, ModelNotFoundError, ServingError
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.repository.version_cache import VersionCache
from partedvae.serving.repository.versions import Stamp, Version, check_models_dir, model_names, stamp_of

logger = logging.getLogger(__name__)


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


class RepositoryObserver(Protocol):
    """Receives events of the repository, in the thread where they happen."""

    def load_done(self, model: str, ok: bool) -> None:
        """Record that a version was loaded, or refused."""

    def models_changed(self, statuses: Sequence[VersionStatus]) -> None:
        """Record that models or versions were added, removed or changed their state."""


@dataclass(frozen=True, kw_only=True)
class _Model:
    versions: Mapping[int, Version]
    """By number, oldest first."""
    default: Version | None
    """The newest that works, loaded; None if none does."""


class ModelRepository:
    """All models of a folder. The newest working version of each is loaded immediately, others on first use.

    Can be used from several threads.
    """

    def __init__(
        self,
        models_dir: Path,
        device: Device = "auto",
        threads: int | None = None,
        observer: RepositoryObserver | None = None,
    ) -> None:
        """Scan the folder and load the newest version of each model.

        Args:
            models_dir: the folder `<models>`.
            device: see `OnnxModel.load`.
            threads: see `OnnxModel.load`.
            observer: receives events, for metrics.

        Raises:
            BundleError: no model works.
            DeviceError: the requested device is not available.
        """
        self._models_dir = models_dir
        self._device: Device = device
        self._threads = threads
        self._observer = observer
        self._models: Mapping[str, _Model] = {}
        self._defaults: Mapping[str, OnnxModel] = {}
        self._last_error = ""
        self._refreshing = threading.Lock()
        self._older = VersionCache()
        check_models_dir(models_dir)
        self._replace({name: self._scan(name, at_start=True) for name in model_names(models_dir)})
        if not self._defaults:
            reasons = "; ".join(s.reason for s in self.statuses())
            raise BundleError(f"no model in {models_dir} works: {reasons}")

    def statuses(self) -> list[VersionStatus]:
        """Return all versions of all models, by name and version."""
        return [
            VersionStatus(
                name=name,
                version=version.number,
                ready=version.ready,
                reason=version.reason,
                is_default=version is model.default,
                provider=onnx_model.provider if (onnx_model := version.model) else "",
            )
            for name, model in self._models.items()
            for version in model.versions.values()
        ]

    def can_answer(self) -> bool:
        """Return whether any model works; all may have been deleted or damaged since the start."""
        return bool(self._defaults)

    def loaded(self, name: str = "", version: int = 0) -> OnnxModel | None:
        """Return a model if it is loaded, without blocking; otherwise None, and `get` loads it or raises."""
        if not version:
            return self._defaults.get(name)
        try:
            found = self._find(name, version)
        except ServingError:
            return None
        model = found.model
        if model is not None:
            self._keep(found)
        return model

    def get(self, name: str = "", version: int = 0) -> OnnxModel:
        """Return a model; load it first if necessary.

        Args:
            name: the model's name; empty means the only one.
            version: its version; 0 means the newest that works.

        Raises:
            InvalidInputError: the name is empty, and there are several models.
            ModelNotFoundError: the model or version does not exist.
            BundleError: it does not work.
            DeviceError: the requested device is not available.
        """
        loaded = self.loaded(name, version)
        if loaded is not None:
            return loaded
        found = self._find(name, version)
        model = self._load(found)
        self._keep(found)
        return model

    def refresh(self) -> None:
        """Find versions that were added, changed or removed; load and warm up new ones, then replace the table.

        Blocks while models are loaded; meanwhile the old table is used. A version that does not work is refused, and
        tried again only when its files change, or at every refresh while the operating system cannot read them. A
        models folder that cannot be read changes nothing.
        """
        with self._refreshing:
            try:
                scanned = {name: self._scan(name) for name in model_names(self._models_dir)}
            except (BundleError, OSError) as error:
                if str(error) != self._last_error:
                    logger.error("cannot look for new models, keeping those that are loaded: %s", error)
                self._last_error = str(error)
                return
            self._last_error = ""
            # The versions of a model may have been deleted while scanning.
            self._replace({name: model for name, model in scanned.items() if model.versions})

    def _scan(self, name: str, *, at_start: bool = False) -> _Model:
        """Read new and changed versions of one model, and load the newest that works."""
        known = self._models[name].versions if name in self._models else {}
        versions = {}
        for number in versions_of(self._models_dir / name):
            folder = self._models_dir / name / str(number)
            stamp = stamp_of(folder)
            version = known.get(number)
            if version is None:
                version = self._read(folder, stamp)
            elif version.stamp != stamp or version.may_recover:
                version = self._changed(version, self._read(folder, stamp, version.reason))
            versions[number] = version
        for version in reversed(versions.values()):
            if not version.ready:
                continue
            try:
                self._load(version)
            except BundleError:
                continue
            except DeviceError:
                if at_start:
                    raise
                continue
            return _Model(versions=versions, default=version)
        return _Model(versions=versions, default=None)

    def _read(self, folder: Path, stamp: Stamp, known_reason: str = "") -> Version:
        """Verify a version folder; report to the observer if it is refused, but not twice for the same reason."""
        version = Version(folder, stamp, self._device, self._threads, known_reason)
        if version.reason not in ("", known_reason) and self._observer is not None:
            self._observer.load_done(version.name, ok=False)
        return version

    def _changed(self, old: Version, new: Version) -> Version:
        """Return the version to use after its files changed: the loaded one if the new files do not work."""
        if old.model is None:
            return new
        try:
            self._load(new)
        except ServingError:
            old.keep_loaded(new)
            return old
        return new

    def _load(self, version: Version) -> OnnxModel:
        """Load a version if necessary; report the attempt to the observer."""
        if version.model is not None or version.reason or self._observer is None:
            return version.load()
        try:
            model = version.load()
        except ServingError:
            self._observer.load_done(version.name, ok=False)
            raise
        self._observer.load_done(version.name, ok=True)
        return model

    def _replace(self, models: dict[str, _Model]) -> None:
        """Replace the table, and unload versions that are no longer used."""
        before = self.statuses()
        defaults = {name: model.default.load() for name, model in models.items() if model.default is not None}
        if len(models) == 1:
            defaults |= dict(zip([""], defaults.values(), strict=False))  # The only model can be used without a name.
        self._models, self._defaults = models, defaults
        self._older.prune({v for model in models.values() for v in model.versions.values() if v is not model.default})
        statuses = self.statuses()
        if self._observer is not None and statuses != before:
            self._observer.models_changed(statuses)

    def _keep(self, version: Version) -> None:
        """Mark an older version as recently used; the default version stays loaded anyway."""
        model = self._models.get(version.name)
        if model is not None and version is not model.default and model.versions.get(version.number) is version:
            self._older.keep(version)

    def _find(self, name: str, number: int) -> Version:
        models = self._models
        names = list(models)
        if not names:
            raise ModelNotFoundError(f"there are no models: export one into {self._models_dir} with 'partedvae export'")
        if not name and len(names) > 1:
            raise InvalidInputError(f"there are several models; choose one of {names}")
        name = name or names[0]
        if name not in models:
            raise ModelNotFoundError(f"no model is named {name!r}: there are {names}{did_you_mean(name, names)}")
        versions, default = models[name].versions, models[name].default
        if not number:
            if default is None:
                raise BundleError(f"no version of model {name!r} works: {versions[max(versions)].reason}")
            return default
        if number not in versions:
            raise ModelNotFoundError(f"model {name!r} has no version {number}: there are {list(versions)}")
        return versions[number]
