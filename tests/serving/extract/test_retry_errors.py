"""Parts with images that could not be read are done again on request, and no others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serving.extract.sources.reading import write_images
from tests.serving.extraction import extract

NAMES = [f"{number:02}.png" for number in range(12)]


@pytest.fixture
def command(tiny_models: Path) -> tuple[object, ...]:
    return ("--model", tiny_models / "tiny", "--rows-per-part", 4)


@pytest.fixture
def list_of_images(tmp_path: Path) -> Path:
    """Write a list of images of which one, in the second of three parts, is not there yet."""
    write_images(tmp_path, [name for name in NAMES if name != "05.png"])
    (tmp_path / "list.txt").write_text("\n".join(NAMES))
    return tmp_path / "list.txt"


def errors(output: Path) -> list[str]:
    table: pa.Table = pq.read_table(output)
    assert table["path"].to_pylist() == NAMES
    found: list[str] = table["error"].drop_null().to_pylist()
    return found


@pytest.mark.parametrize(
    ("name", "done"), [("features", "resuming: 2 of 3 parts are done\n"), ("features.parquet", "")]
)
def test_a_complete_output_is_retried(
    name: str, done: str, list_of_images: Path, command: tuple[object, ...], tmp_path: Path
) -> None:
    """Of a file the parts are gone, so that all are done again; the file stays until then."""
    output = tmp_path / name
    assert extract(list_of_images, output, *command).exit_code == 0
    assert errors(output) == ["No such file or directory"]
    result = extract(list_of_images, output, *command)
    assert result.stderr.startswith(f"{output} is complete already\n")

    write_images(tmp_path, ["05.png"])
    result = extract(list_of_images, output, *command, "--retry-errors")
    assert (result.exit_code, result.stderr) == (0, done)
    assert errors(output) == []
    result = extract(list_of_images, output, *command, "--retry-errors")
    assert (result.exit_code, result.stderr) == (0, f"{output} is complete already\n")


def test_an_unfinished_output_is_retried(list_of_images: Path, command: tuple[object, ...], tmp_path: Path) -> None:
    output = tmp_path / "features"
    assert extract(list_of_images, output, *command).exit_code == 0
    (output / "part-00002-of-00003.parquet").unlink()
    write_images(tmp_path, ["05.png"])
    result = extract(list_of_images, output, *command, "--resume", "--retry-errors")
    assert (result.exit_code, result.stderr) == (0, "resuming: 1 of 3 parts are done\n")
    assert errors(output) == []


def test_other_features_are_not_replaced(list_of_images: Path, command: tuple[object, ...], tmp_path: Path) -> None:
    output = tmp_path / "features.parquet"
    assert extract(list_of_images, output, *command).exit_code == 0
    result = extract(list_of_images, output, *command, "--include", "u,error", "--retry-errors")
    assert result.exit_code == 1
    assert "--include was class,u,error, now u,error; choose another --output" in result.stderr
    assert errors(output) == ["No such file or directory"]
