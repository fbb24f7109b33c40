"""Tests of `partedvae.serving.repository.version_cache` with real versions and a clock that is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from partedvae.common.retry import Retries
from partedvae.serving.errors import TooManyLoadsError
from partedvae.serving.repository.version_cache import (
    BURST,
    CAPACITY,
    IN_USE_SECONDS,
    SECONDS_PER_LOAD,
    VersionCache,
)
from partedvae.serving.repository.versions import Version, stamp_of
from tests.bundles import GREY


class Clock:
    """A clock that is set by hand."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> VersionCache:
    return VersionCache(clock)


def versions(model_folder: Path, count: int) -> list[Version]:
    folders = [GREY.write(model_folder).folder for _ in range(count)]
    return [Version(folder, stamp_of(folder), "cpu", 1, retry=Retries()) for folder in folders]


def load(cache: VersionCache, version: Version) -> None:
    cache.reserve(version)
    version.load()
    cache.keep(version)


def loaded(*of: Version) -> list[bool]:
    return [version.model is not None for version in of]


def test_a_version_in_use_is_not_unloaded(tmp_path: Path, cache: VersionCache, clock: Clock) -> None:
    """Another one is loaded when one of them has not been used for a while, which the error says."""
    first, second, third = versions(tmp_path / "tiny", CAPACITY + 1)
    load(cache, first)
    clock.seconds += 1
    load(cache, second)
    clock.seconds += 1
    cache.touch(first)
    clock.seconds += 1
    with pytest.raises(TooManyLoadsError, match=r"2 older versions of model 'tiny' are in use, .*: try") as caught:
        cache.reserve(third)
    assert caught.value.retry_after == IN_USE_SECONDS - 2  # The second one is unused for two seconds.
    assert loaded(first, second, third) == [True, True, False]
    clock.seconds += caught.value.retry_after
    load(cache, third)
    assert loaded(first, second, third) == [True, False, True]


def test_versions_that_are_being_loaded_are_in_use(tmp_path: Path, cache: VersionCache, clock: Clock) -> None:
    """However long it takes; a version that could not be loaded makes room."""
    first, second, third = versions(tmp_path / "tiny", CAPACITY + 1)
    cache.reserve(first)
    cache.reserve(second)
    clock.seconds += 10 * IN_USE_SECONDS
    with pytest.raises(TooManyLoadsError):
        cache.reserve(third)
    cache.release(second)
    cache.reserve(third)


def test_each_model_has_room(tmp_path: Path, cache: VersionCache) -> None:
    """Old versions of one model do not displace those of others."""
    both = [versions(tmp_path / name, CAPACITY) for name in ("a", "b")]
    for of_model in both:
        for version in of_model:
            load(cache, version)
    assert all(loaded(*both[0], *both[1]))


def test_loads_of_all_models_are_limited(tmp_path: Path, cache: VersionCache, clock: Clock) -> None:
    """A number of loads at once, then one per some seconds."""
    many = [version for name in "abcdef" for version in versions(tmp_path / name, CAPACITY)]
    for version in many[:BURST]:
        cache.reserve(version)
    with pytest.raises(TooManyLoadsError, match="8 older versions of models have just been loaded: try") as caught:
        cache.reserve(many[BURST])
    assert caught.value.retry_after == SECONDS_PER_LOAD
    clock.seconds += SECONDS_PER_LOAD
    cache.reserve(many[BURST])
    with pytest.raises(TooManyLoadsError, match="just been loaded"):
        cache.reserve(many[BURST + 1])
    clock.seconds += BURST * SECONDS_PER_LOAD
    for version in many[BURST + 1 :]:
        cache.reserve(version)
