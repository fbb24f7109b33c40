"""What an extraction reports, and its exit codes, when images cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.serving.extraction import extract


@pytest.fixture
def model(tiny_models: Path) -> tuple[str, Path]:
    return "--model", tiny_models / "tiny"


def test_strict_writes_all_rows_and_exits_with_3(folder: Path, model: tuple[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "features.parquet"
    for _ in range(2):  # Also when it is complete already.
        result = extract(folder, output, *model, "--strict")
        assert result.exit_code == 3
        assert "2 images could not be read" in result.stderr
        assert pq.read_metadata(output).num_rows == 14


def test_max_errors(folder: Path, model: tuple[str, Path], tmp_path: Path) -> None:
    """As many as allowed are rows; with one more the run stops, and keeps its parts."""
    output = tmp_path / "features"
    parts = ("--rows-per-part", 4, "--batch-size", 2)
    result = extract(folder, output, *model, *parts, "--max-errors", 1)
    assert result.exit_code == 1
    assert "Error: more than 1 image could not be read (--max-errors); the first: 05-bad.PNG: not an" in result.stderr
    assert f"2 of 4 parts of {output} kept; pass a larger --max-errors to go on\n" in result.stderr
    result = extract(folder, output, *model, *parts, "--max-errors", 2)
    assert result.exit_code == 0
    assert "resuming: 2 of 4 parts are done\n2 images could not be read" in result.stderr


def test_max_errors_counts_those_of_earlier_runs(folder: Path, model: tuple[str, Path], tmp_path: Path) -> None:
    """So that a job that failed does not succeed when it is repeated, whether its output is complete or not."""
    output = tmp_path / "features"
    parts = ("--rows-per-part", 4)
    assert extract(folder, output, *model, *parts).exit_code == 0
    message = "Error: more than 1 image could not be read (--max-errors); the first: 05-bad.PNG: not an"
    result = extract(folder, output, *model, *parts, "--max-errors", 1)
    assert (result.exit_code, result.stderr) == (1, f"{output} is complete already\n{result.stderr.splitlines()[1]}\n")
    assert message in result.stderr

    (output / "part-00003-of-00004.parquet").unlink()
    result = extract(folder, output, *model, *parts, "--max-errors", 1)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (output / "part-00003-of-00004.parquet").exists()


def test_json_is_all_that_is_printed(folder: Path, model: tuple[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "features"
    result = extract(folder, output, *model, "--rows-per-part", 4, "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    summary = json.loads(result.stdout)
    assert summary.pop("seconds") > 0
    assert summary.pop("images_per_second") > 0
    assert summary == {
        "output": str(output),
        "images": 14,
        "computed": 14,
        "unreadable": 2,
        "unreadable_examples": [
            "05-bad.PNG: not an image (it starts with b'nonsense'): send a PNG, JPEG, WebP, BMP, TIFF or GIF file",
            "deep/animation.jpg: PDF is not supported: send a PNG, JPEG, WebP, BMP, TIFF or GIF file",
        ],
        "unfamiliar": 0,
        "unfamiliar_inverted": 0,
        "parts": 4,
        "parts_done_before": 0,
        "left_out": {"ending in .txt, which is not read": 1},
    }
    (output / "part-00000-of-00004.parquet").unlink()
    summary = json.loads(extract(folder, output, *model, "--rows-per-part", 4, "--json").stdout)
    assert {name: summary[name] for name in ("images", "computed", "unreadable", "parts_done_before")} == {
        "images": 14,
        "computed": 4,
        "unreadable": 2,
        "parts_done_before": 3,
    }


def test_without_the_column_error_the_summary_says_how_to_get_it(
    folder: Path, model: tuple[str, Path], tmp_path: Path
) -> None:
    result = extract(folder, tmp_path / "features.parquet", *model, "--include", "class")
    assert result.exit_code == 0
    assert result.stderr.startswith("2 images could not be read; --include error adds reasons:\n  05-bad.PNG: not an")
