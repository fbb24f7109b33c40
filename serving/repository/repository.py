"""The model repository: a folder `<models>/<name>/<version>/`, which versions it has, and which one is the default.

The table of models is immutable and replaced as a whole, so that a request sees the old one or the new one. A new
version is verified, loaded and warmed up before a table with it replaces the old one; the version that it succeeds is
freed with the last request that uses it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from partedvae.common.retry import Retries
from partedvae.serving.errors import BundleError, DeviceError, ServingError
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.onnx.precision import Precision
from partedvae.serving.repository.folders import Listing, list_models, list_served_models
from partedvae.serving.repository.table import ServedModel, VersionStatus, find, statuses_of
from partedvae.serving.repository.version_cache import VersionCache
from partedvae.serving.repository.versions import Stamp, Version, stamp_of

logger = logging.getLogger(__name__)

GRAPH_COPIES = 4
"""Memory of a loaded graph as a multiple of its file: weights, their packed copies, and the file while it is loaded."""

RETRIES_OF_REFRESH = 3
"""Files or folders that are read again at once where they cannot be read; the next refresh reads the others."""
SKIPPED_SHOWN = 20
"""Skipped entries that are logged at once."""


class RepositoryObserver(Protocol):
    """Receives events of the repository, in the thread where they happen."""

    def load_done(self, model: str, ok: bool) -> None:
        """Record that a version was loaded, or refused."""

    def models_changed(self, statuses: Sequence[VersionStatus]) -> None:
        """Record that models or versions were added, removed or changed their state."""


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
        precision: Precision = "fp32",
    ) -> None:
        """Scan the folder and load the newest version of each model.

        Args:
            models_dir: the folder `<models>`.
            device: see `OnnxModel.load`.
            threads: see `OnnxModel.load`.
            observer: receives events, for metrics.
            precision: see `OnnxModel.load`.

        Raises:
            BundleError: no model works.
            DeviceError: the requested device is not available.
        """
        self._models_dir = models_dir
        self._device: Device = device
        self._threads = threads
        self._precision: Precision = precision
        self._observer = observer
        self._models: Mapping[str, ServedModel] = {}
        self._defaults: Mapping[str, OnnxModel] = {}
        self._last_error = ""
        self._refreshing = threading.Lock()
        self._older = VersionCache()
        self._skipped: Mapping[str, str] = {}
        retry = Retries()
        listing = list_served_models(models_dir, retry)
        self._log_skipped(listing)
        self._replace({name: self._scan(name, of, retry, at_start=True) for name, of in listing.versions.items()})
        if not self._defaults:
            reasons = "; ".join(s.reason for s in self.statuses())
            raise BundleError(f"no model in {models_dir} works: {reasons}")

    def statuses(self) -> list[VersionStatus]:
        """Return all versions of all models, by name and version."""
        return statuses_of(self._models)

    @property
    def names(self) -> Collection[str]:
        """Names of all models, in order."""
        return self._models.keys()

    def can_answer(self) -> bool:
        """Return whether any model works; all may have been deleted or damaged since the start."""
        return bool(self._defaults)

    def memory_of_loaded(self) -> int:
        """Estimate the memory of the models that are loaded, in bytes: their graphs, without their batches."""
        return GRAPH_COPIES * sum(
            sum(file.size_bytes for file in model.manifest.files)
            for served in self._models.values()
            for version in served.versions.values()
            if (model := version.model) is not None
        )

    def loaded(self, name: str = "", version: int = 0) -> OnnxModel | None:
        """Return a model if it is loaded, without blocking; otherwise None, and `get` loads it or raises."""
        if not version:
            return self._defaults.get(name)
        try:
            found = self.find(name, version)
        except ServingError:
            return None
        model = found.model
        if model is not None and self._is_older(found):
            self._older.touch(found)
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
        found = self.find(name, version)
        try:
            model = self._load(found)
        except ServingError:
            self._older.release(found)
            raise
        if self._is_older(found):
            self._older.keep(found)
        return model

    def find(self, name: str = "", version: int = 0) -> Version:
        """Return a version, loaded or not, without blocking; arguments and errors are those of `get`."""
        return find(self._models, name, version)

    def reserve(self, version: Version) -> None:
        """Make sure that a version from `find` may be loaded now; `get` must follow.

        Raises:
            TooManyLoadsError: too many others are in use, or were loaded in the last seconds.
        """
        if self._is_older(version):
            self._older.reserve(version)

    def may_recover(self) -> bool:
        """Return whether something could not be read for a reason that may pass by itself."""
        return bool(self._last_error) or any(v.may_recover for m in self._models.values() for v in m.versions.values())

    def refresh(self) -> None:
        """Find versions that were added, changed or removed; load and warm up new ones, then replace the table.

        Blocks while models are loaded; meanwhile the old table is used. A version that does not work is refused, and
        tried again only when its files change, or at every refresh while the operating system cannot read them. A
        models folder that cannot be read changes nothing.
        """
        with self._refreshing:
            retry = Retries(RETRIES_OF_REFRESH)
            try:
                listing = list_models(self._models_dir, retry)
            except BundleError as error:
                if str(error) != self._last_error:
                    logger.error("cannot look for new models, keeping those that are loaded: %s", error)
                self._last_error = str(error)
                return
            self._last_error = ""
            self._log_skipped(listing)
            # A folder that cannot be listed for a while has the versions that it had.
            models = {name: self._models[name] for name in listing.unreadable & self._models.keys()}
            models |= {name: self._scan(name, numbers, retry) for name, numbers in listing.versions.items()}
            self._replace(dict(sorted(models.items())))

    def _log_skipped(self, listing: Listing) -> None:
        """Log what is skipped, once."""
        new = {path: reason for path, reason in listing.skipped.items() if self._skipped.get(path) != reason}
        for path in list(new)[:SKIPPED_SHOWN]:
            logger.warning("skipped %r: %s", str(self._models_dir / path), new[path])
        if len(new) > SKIPPED_SHOWN:
            logger.warning("skipped %d more in %s", len(new) - SKIPPED_SHOWN, self._models_dir)
        self._skipped = listing.skipped

    def _scan(self, name: str, numbers: Sequence[int], retry: Retries, *, at_start: bool = False) -> ServedModel:
        """Read new and changed versions of one model, and load the newest that works."""
        known = self._models[name].versions if name in self._models else {}
        versions = {}
        for number in numbers:
            folder = self._models_dir / name / str(number)
            stamp = stamp_of(folder)
            version = known.get(number)
            if version is None:
                version = self._read(folder, stamp, retry)
            elif version.stamp != stamp or version.may_recover:
                version = self._changed(version, self._read(folder, stamp, retry, version.reason))
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
            return ServedModel(versions=versions, default=version)
        return ServedModel(versions=versions, default=None)

    def _read(self, folder: Path, stamp: Stamp, retry: Retries, known_reason: str = "") -> Version:
        """Verify a version folder; report to the observer if it is refused, but not twice for the same reason."""
        version = Version(
            folder,
            stamp,
            self._device,
            self._threads,
            precision=self._precision,
            retry=retry,
            known_reason=known_reason,
        )
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

    def _replace(self, models: dict[str, ServedModel]) -> None:
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

    def _is_older(self, version: Version) -> bool:
        """Return whether a version is in the table, and not a default, which stays loaded anyway."""
        model = self._models.get(version.name)
        return model is not None and version is not model.default and model.versions.get(version.number) is version
