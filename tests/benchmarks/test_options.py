"""Tests of the options that benchmarks share."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from benchmarks.options import newest_bundle, write_results
from benchmarks.serving.load import BenchmarkError
from tests.bundles import GREY


def test_the_newest_version(tmp_path: Path) -> None:
    """The model with the highest number is measured."""
    GREY.write(tmp_path / "tiny")
    assert newest_bundle(tmp_path, "tiny").version == 1
    GREY.write(tmp_path / "tiny")
    assert newest_bundle(tmp_path, "tiny").version == 2


def test_a_model_that_is_missing_or_damaged(tmp_path: Path) -> None:
    """The error names the command that creates a model, or the file that is damaged."""
    with pytest.raises(click.ClickException, match="mnist contains no version of a model; 'make demo' writes one to"):
        newest_bundle(tmp_path, "mnist")
    bundle = GREY.write(tmp_path / "tiny")
    (bundle.folder / "manifest.json").write_text("{")
    with pytest.raises(click.ClickException, match=r"manifest\.json"):
        newest_bundle(tmp_path, "tiny")


def test_results_are_written(tmp_path: Path) -> None:
    """JSON goes into a new folder, and the text replaces the section; nothing is written without the options."""
    document = tmp_path / "doc.md"
    document.write_text("<!-- x:begin -->\nold\n<!-- x:end -->\n")
    write_results(tmp_path / "new" / "out.json", {"a": 1}, document, "x", "text")
    assert json.loads((tmp_path / "new" / "out.json").read_text()) == {"a": 1}
    assert document.read_text() == "<!-- x:begin -->\n\ntext\n\n<!-- x:end -->\n"
    write_results(None, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["doc.md", "new"]
    with pytest.raises(BenchmarkError, match="has no <!-- y:begin -->"):
        write_results(None, {}, document, "y", "text")
