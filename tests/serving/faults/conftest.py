"""Fixtures of the tests that run with each front."""

from __future__ import annotations

import pytest

from tests.processes import ServerProcess


@pytest.fixture(scope="module")
def server(each_front: str, server: ServerProcess, native_server: ServerProcess) -> ServerProcess:
    """Return a server of `tiny_models`."""
    return native_server if each_front == "native" else server
