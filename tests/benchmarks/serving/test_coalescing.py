"""Tests of the benchmark of joined calls on a tiny model: its JSON and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.serving import coalescing
from benchmarks.serving.coalescing import Rate, main, medians, report


@pytest.mark.slow
def test_the_whole_benchmark(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It measures both clients without and with coalesce, and prints what it writes."""
    monkeypatch.setattr(coalescing, "WARM_UP", 0.1)
    output = tmp_path / "new" / "rates.json"
    arguments = ["--output", str(output), "--models", str(tiny_models), "--name", "tiny", "--callers", "8"]
    result = CliRunner().invoke(main, [*arguments, "--seconds", "2", "--rounds", "1", "--window-ms", "2"])
    assert result.exit_code == 0, result.output
    rates = json.loads(output.read_text(encoding="utf-8"))["rates"]
    assert [(rate["client"], rate["coalesce"]) for rate in rates] == [
        (client, coalesce) for client in ("AsyncClient", "Client") for coalesce in (False, True, 2.0)
    ]
    for rate in rates:
        assert rate["calls_per_second"] > 0
        assert rate["p50_ms"] <= rate["p99_ms"]
        assert f"{rate['calls_per_second']:,.0f}" in result.output


def test_rates_are_medians_over_the_rounds() -> None:
    """Of each number by itself; the table compares with one message per call of the same client."""

    def rate(coalesce: bool | float, calls: float) -> Rate:
        return Rate(client="Client", callers=9, coalesce=coalesce, calls_per_second=calls, p50_ms=1 / calls, p99_ms=2.0)

    summary = medians([rate(False, 100), rate(1.0, 9), rate(True, 500), rate(False, 300), rate(False, 200)])
    assert [(each.coalesce, each.calls_per_second) for each in summary] == [(False, 200), (1.0, 9), (True, 500)]
    assert "| Client | 9 threads | True | 500 | 2.5 |" in report(summary)
    assert "| Client | 9 threads | 1 ms | 9 | 0.0 |" in report(summary)
