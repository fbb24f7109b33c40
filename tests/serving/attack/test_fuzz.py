"""A few thousand of the requests of `make fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.attack.bounds import log_problems
from benchmarks.attack.fuzz.__main__ import status_problems
from benchmarks.attack.fuzz.fuzzer import fuzz
from benchmarks.attack.fuzz.methods import methods
from benchmarks.attack.server import running_server, this_checkout

REQUESTS = 3000


@pytest.mark.slow
@pytest.mark.exhaustive
def test_mutated_requests_get_a_status(tiny_target_models: Path, tmp_path: Path) -> None:
    """Requests to all RPCs, mutated by their descriptors, are answered, and not with INTERNAL or UNKNOWN."""
    answered: list[int] = []
    with running_server("default", this_checkout(), tiny_target_models, tmp_path) as server:
        result = fuzz(server.target, requests=REQUESTS, processes=1, in_flight=16, seed=1, on_progress=answered.append)
        assert status_problems(result) == []
        assert log_problems(server.log_file, 0, server) == []
        assert server.is_running()
    assert sum(result.statuses.values()) == REQUESTS
    assert {method.path for method in methods()} <= {path for path, _ in result.statuses}
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= {status for _, status in result.statuses}
