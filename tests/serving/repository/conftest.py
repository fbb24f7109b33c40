"""Fixture of the tests of the repository."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat reading at once; how often it is repeated stays the same."""
    monkeypatch.setattr("partedvae.common.retry.DELAYS", (0.0, 0.0))
