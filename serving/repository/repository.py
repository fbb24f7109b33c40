"""The models of a folder `<models>/<name>/<version>/`: which there are, which one answers, and why others do not.

The table of models is never changed, only replaced as a whole: requests see the old one or the new one. A version that
appears is verified, loaded and warmed before the table that names it is put in place; the one that it follows ends with
the last request that holds its runtime.
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
from partedvae.serving.repository.version_cache import PinnedVersions
from partedvae.serving.repository.versions import Stamp, Version, check_models_dir, model_names, stamp_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version of one model."""

    name: str
    version: int
    ready: bool
    """Whether it answers."""
    reason: str
    """Why its files cannot be used; empty when they can. A version that was loaded before they were damaged answers."""
    is_default: bool
    """Whether it is the one that answers when no version is named."""
    provider: str
    """ONNX Runtime's execution provider that it runs on; empty while it is not loaded."""


class RepositoryObserver(Protocol):
    """Is told what happens to the models, in the thread where it happens."""

    def load_done(self, model: str, ok: bool) -> None:
        """Take note that a version was loaded, or refused."""

    def models_changed(self, statuses: Sequence[VersionStatus]) -> None:
        """Take note that models or versions have come, gone or changed their state."""


@dataclass(frozen=True, kw_only=True)
class _Model:
    versions: Mapping[int, Version]
    """By number, oldest first."""
    default: Version | None
    """The newest that works, loaded."""


class ModelRepository:
    """All models of a folder. The newest working version of each is loaded at once, others when they are asked for.

    Safe to use from many threads at once.
    """

    def __init__(
        self,
        models_dir: Path,
        device: Device = "auto",
        threads: int | None = None,
        observer: RepositoryObserver | None = None,
    ) -> None:
        """Scan the folder and load.

        Raises:
            BundleError: there is no model that works.
            DeviceError: a device was asked for that is not to be had.
        """
        self._models_dir = models_dir
        self._device: Device = device
        self._threads = threads
        self._observer = observer
        self._models: Mapping[str, _Model] = {}
        self._defaults: Mapping[str, OnnxModel] = {}
        self._complaint = ""
        self._refreshing = threading.Lock()
        self._pinned = PinnedVersions()
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
                provider=runtime.provider if (runtime := version.runtime) else "",
            )
            for name, model in self._models.items()
            for version in model.versions.values()
        ]

    def can_answer(self) -> bool:
        """Tell whether there is a model that works; all may have been deleted or broken since the start."""
        return bool(self._defaults)

    def loaded(self, name: str = "", version: int = 0) -> OnnxModel | None:
        """Return a model that is loaded, without ever waiting; None means that `get` will load it or tell why not."""
        if not version:
            return self._defaults.get(name)
        try:
            found = self._find(name, version)
        except ServingError:
            return None
        runtime = found.runtime
        if runtime is not None:
            self._keep(found)
        return runtime

    def get(self, name: str = "", version: int = 0) -> OnnxModel:
        """Return a model, loaded. May take as long as loading takes.

        Args:
            name: of the model; empty means the only one.
            version: of the model; 0 means the newest that works.

        Raises:
            InvalidInputError: no name, and there are several models.
            ModelNotFoundError: there is no such model or version.
            BundleError: there is one, and it does not work.
            DeviceError: the device asked for is not to be had.
        """
        ready = self.loaded(name, version)
        if ready is not None:
            return ready
        found = self._find(name, version)
        runtime = self._load(found)
        self._keep(found)
        return runtime

    def refresh(self) -> None:
        """Look for versions that appeared, changed or went; load and warm what is new, then replace the table.

        Takes as long as loading takes, while the old table answers. A version that does not work is refused, and tried
        again only when its files change. A folder that cannot be read changes nothing.
        """
        with self._refreshing:
            try:
                scanned = {name: self._scan(name) for name in model_names(self._models_dir)}
            except (BundleError, OSError) as error:
                if str(error) != self._complaint:
                    logger.error("cannot look for new models, going on with those that are loaded: %s", error)
                self._complaint = str(error)
                return
            self._complaint = ""
            # The versions of a model may have been deleted between two looks.
            self._replace({name: model for name, model in scanned.items() if model.versions})

    def _scan(self, name: str, *, at_start: bool = False) -> _Model:
        """Read what is new of one model, and load the newest version that works."""
        known = self._models[name].versions if name in self._models else {}
        versions = {}
        for number in versions_of(self._models_dir / name):
            folder = self._models_dir / name / str(number)
            stamp = stamp_of(folder)
            version = known.get(number)
            if version is None:
                version = self._read(folder, stamp)
            elif version.stamp != stamp:
                version = self._changed(version, self._read(folder, stamp))
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

    def _read(self, folder: Path, stamp: Stamp) -> Version:
        """Verify a version folder; tell the observer when it is refused."""
        version = Version(folder, stamp, self._device, self._threads)
        if version.reason and self._observer is not None:
            self._observer.load_done(version.name, ok=False)
        return version

    def _changed(self, old: Version, new: Version) -> Version:
        """Return what answers for a version whose files have changed: what is loaded goes on if the files are bad."""
        if old.runtime is None:
            return new
        try:
            self._load(new)
        except ServingError:
            old.outlive(new.stamp, new.reason)
            return old
        return new

    def _load(self, version: Version) -> OnnxModel:
        """Load if needed; tell the observer of what was tried."""
        if version.runtime is not None or version.reason or self._observer is None:
            return version.load()
        try:
            runtime = version.load()
        except ServingError:
            self._observer.load_done(version.name, ok=False)
            raise
        self._observer.load_done(version.name, ok=True)
        return runtime

    def _replace(self, models: dict[str, _Model]) -> None:
        """Put a new table in place, and let go of what nobody asks for any more."""
        before = self.statuses()
        defaults = {name: model.default.load() for name, model in models.items() if model.default is not None}
        if len(models) == 1:
            defaults |= dict(zip([""], defaults.values(), strict=False))  # The only model needs no name.
        self._models, self._defaults = models, defaults
        self._pinned.prune({v for model in models.values() for v in model.versions.values() if v is not model.default})
        statuses = self.statuses()
        if self._observer is not None and statuses != before:
            self._observer.models_changed(statuses)

    def _keep(self, version: Version) -> None:
        """Note that a version was named, if it is an older one: the newest is loaded anyway."""
        model = self._models.get(version.name)
        if model is not None and version is not model.default and model.versions.get(version.number) is version:
            self._pinned.keep(version)

    def _find(self, name: str, number: int) -> Version:
        models = self._models
        names = list(models)
        if not names:
            raise ModelNotFoundError(f"there are no models: export one into {self._models_dir} with 'partedvae export'")
        if not name and len(names) > 1:
            raise InvalidInputError(f"there are several models, name one of {names}")
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
