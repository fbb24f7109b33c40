"""Tests of the benchmark of ONNX Runtime alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.onnx_runtime import CHANGES, ROWS, main, setups
from tests.bundles import GREY


@pytest.mark.exhaustive
@pytest.mark.slow
def test_it_measures_all_graphs_and_updates_a_document(tmp_path: Path) -> None:
    replace(GREY, has_int8=True).write(tmp_path / "models" / "tiny")
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- onnx-runtime:begin -->\nold\n<!-- onnx-runtime:end -->\nafter\n")
    arguments = ["--models", str(tmp_path / "models"), "--name", "tiny", "--seconds", "0.01"]
    result = CliRunner().invoke(main, [*arguments, "--document", str(document)])
    assert result.exit_code == 0, result.output
    text = document.read_text()
    assert (text.splitlines()[0], text.splitlines()[-1]) == ("before", "after")
    assert "old" not in text
    for graph in ("encoder", "encoder, int8", "decoder"):
        assert f"| images/s of the {graph}, rows | one caller, one thread |" in text
    assert sum(line.startswith(tuple(f"| {rows} | " for rows in ROWS)) for line in text.splitlines()) == 3 * len(ROWS)
    for change in set(CHANGES) - {"", "spinning"}:
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {change} |"))
        assert len([float(share) for share in line.strip("| ").split(" | ")[1:]]) == 4


def test_one_processor_has_one_way_to_run() -> None:
    assert list(setups(1)) == ["one caller, one thread"]
    assert [setup.callers * setup.threads for setup in setups(4).values()] == [1, 4, 4, 4, 4]


def test_a_folder_without_the_model(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--models", str(tmp_path)])
    assert result.exit_code == 1
    assert "mnist contains no version of a model; 'make demo' writes one" in result.output
