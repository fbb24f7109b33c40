"""Tests of the filter of `partedvae.serving.config.logging`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from partedvae.serving.config.logging import configure
from partedvae.serving.config.serve_config import ServeConfig


@pytest.fixture
def _root_logger() -> Iterator[None]:
    """Restore the root logger."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_root_logger")
def test_late_replies_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Clients that disconnect and calls that are cancelled are errors for gRPC; only its other errors are logged."""
    configure(ServeConfig(models_dir=Path("models")))
    library = logging.getLogger("grpc._cython.cygrpc")
    library.error("ExecuteBatchError raised in core by servicer method [%s]", "/a/B")
    library.error("Unexpected [%s] raised by servicer method [%s]", "OSError", "/a/B")
    for error in (asyncio.CancelledError(), KeyError("digit")):
        library.error("Exception not handled in servicer method [/a/B]", exc_info=error)
    assert "Unexpected [OSError] raised" in (lines := capsys.readouterr().err)
    assert "ExecuteBatchError" not in lines
    assert "CancelledError" not in lines
    assert "KeyError: 'digit'" in lines
