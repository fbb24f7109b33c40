"""Fixtures that provide toy runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.figures import runs


@pytest.fixture(autouse=True)
def _toy_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partedvae.training.runs.data.load_dataset", runs.load)


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes the untrained run of a name in `runs.CONFIGS`."""
    return lambda name: runs.write_run(tmp_path / "runs" / name, name)
