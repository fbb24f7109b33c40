"""Tests of the versions that `partedvae.serving.bundle.write_bundle` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from partedvae.serving.bundle_files import MAX_VERSION, versions_of
from tests.bundles import GREY


def test_the_next_version_follows_the_largest(tmp_path: Path) -> None:
    """Names that are no version do not count, and a version named by the time does."""
    for name in ("007", "99999999999999999999", "20251125073300"):
        (tmp_path / name).mkdir()
    assert GREY.write(tmp_path).version == 20251125073301


def test_no_version_follows_the_largest_possible(tmp_path: Path) -> None:
    (tmp_path / str(MAX_VERSION)).mkdir()
    with pytest.raises(OSError, match="version 9223372036854775807 is the largest that is possible; rename its folder"):
        GREY.write(tmp_path)
    assert versions_of(tmp_path) == [MAX_VERSION]
    assert [entry.name for entry in tmp_path.iterdir()] == [str(MAX_VERSION)]
