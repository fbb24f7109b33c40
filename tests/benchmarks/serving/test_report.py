"""Tests of the serving benchmark on a tiny model: its JSON and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.serving import __main__, ort_alone, suite
from benchmarks.serving.__main__ import main
from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.tables import replace_section

KEYS = {
    "requests_per_second",
    "images_per_second",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "share_of_ort",
    "variant",
    "workers",
    "concurrent",
}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_whole_benchmark(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes all figures to JSON, and replaces the table in the document without changing its surroundings."""
    monkeypatch.setattr(suite, "CONCURRENT", (8,))
    monkeypatch.setattr(ort_alone, "BATCHES", (4,))
    monkeypatch.setattr(ort_alone, "available_cpus", lambda: 1)
    monkeypatch.setattr(__main__, "available_cpus", lambda: 1)
    document = tmp_path / "doc.md"
    document.write_text("before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n")
    arguments = ["--output", str(tmp_path / "bench.json"), "--models", str(tiny_models), "--name", "tiny"]
    arguments += ["--front", "grpcio", "--seconds", "2", "--document", str(document)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert figures["ort_images_per_second"] > 0
    assert figures["ort_generated_images_per_second"] > 0
    for name in ("features_1", "features_64", "generate_1", "generate_64"):
        assert figures[name].keys() >= KEYS
        assert figures[name]["requests_per_second"] > 0
    (server,) = figures["servers"].values()
    assert (server["variant"], server["workers"]) == ("grpcio", 1)
    assert server["half_load"]["rate"] == figures["features_1"]["requests_per_second"] / 2
    assert server["resident_megabytes_after"] > 0
    assert figures["ort_alone"]["fp32"]["generate"] == {
        "images_per_second": figures["ort_generated_images_per_second"],
        "processes": 1,
        "threads": 1,
        "rows": 4,
    }
    assert len(figures["loads"]) == 4
    assert figures["start_seconds"] == server["start_seconds"] > 0
    assert figures["resident_megabytes"] > 0
    assert figures["machine"]["cpus"] >= 1
    text = document.read_text()
    assert text.startswith("before\n<!-- bench:begin -->\n\nMeasured on ")
    assert text.endswith("<!-- bench:end -->\nafter\n")
    assert "old" not in text
    assert "| features, 64 images | grpcio | 1 | 8 | " in text


def test_without_a_model(tmp_path: Path) -> None:
    """The error names the command that creates a model."""
    result = CliRunner().invoke(main, ["--output", "x.json", "--models", str(tmp_path)])
    assert result.exit_code == 1
    assert "mnist contains no version of a model; 'make demo' writes one to demo/models" in result.output


def test_a_document_without_the_comments(tmp_path: Path) -> None:
    """The error names the missing comments."""
    (tmp_path / "doc.md").write_text("nothing")
    with pytest.raises(BenchmarkError, match="has no <!-- bench:begin --> followed by <!-- bench:end -->"):
        replace_section(tmp_path / "doc.md", "bench", "text")
