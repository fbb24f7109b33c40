"""Tests of the load by `AsyncClient`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving import concurrent_client
from benchmarks.serving.load import BenchmarkError
from partedvae.serving.bundle import load_bundle
from tests.bundles import GREY
from tests.processes import ServerProcess


@pytest.mark.slow
def test_every_client(server: ServerProcess, tiny_models: Path) -> None:
    """Each configuration of the client gets answers."""
    bundle = load_bundle(tiny_models / "tiny" / "1")
    clients = concurrent_client.client_options()
    assert clients[concurrent_client.UNCOALESCED] == {}
    for options in clients.values():
        result = concurrent_client.run(server.address, bundle, 2.0, options)
        assert result.images_per_second == result.requests_per_second > 0
        assert 0 < result.p50_ms <= result.p99_ms


def test_a_failed_call_fails_the_measurement(server: ServerProcess, tmp_path: Path) -> None:
    """The error has the client's message."""
    bundle = GREY.write(tmp_path / "other")
    with pytest.raises(BenchmarkError, match=rf"a call of AsyncClient to {server.address} failed: .*other"):
        concurrent_client.run(server.address, bundle, 2.0, {})
