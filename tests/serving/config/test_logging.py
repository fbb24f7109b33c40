"""Tests of what `partedvae.serving.config.logging` leaves out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from partedvae.serving.config.logging import configure
from partedvae.serving.config.serve_config import ServeConfig


@pytest.fixture
def _root_logger() -> Iterator[None]:
    """Put the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_root_logger")
def test_answers_that_come_too_late_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """A complaint of gRPC about a caller that went while its answer was sent leaves no line; other complaints do."""
    configure(ServeConfig(models_dir=Path("models")))
    library = logging.getLogger("grpc._cython.cygrpc")
    library.error("ExecuteBatchError raised in core by servicer method [%s]", "/a/B")
    library.error("Unexpected [%s] raised by servicer method [%s]", "OSError", "/a/B")
    assert "Unexpected [OSError] raised" in (lines := capsys.readouterr().err)
    assert "ExecuteBatchError" not in lines
