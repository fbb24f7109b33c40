"""Outputs that other processes change while an extraction runs, or before it: no row is lost or doubled unnoticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from partedvae.serving.extract.output.feature_files import read_tables
from partedvae.serving.extract.output.parts import PartWriter
from partedvae.serving.extract.summary import Counts
from tests.bundles import GREY
from tests.serving.extraction import extract

PARTS = ("--rows-per-part", 16)
"""Three parts of 40 images."""


@pytest.fixture
def command(tiny_models: Path, tmp_path: Path) -> tuple[object, ...]:
    np.save(tmp_path / "images.npy", GREY.random_images(40))
    return ("--model", tiny_models / "tiny", *PARTS)


def test_further_parts_in_a_folder_are_not_taken_for_rows(command: tuple[object, ...], tmp_path: Path) -> None:
    """A complete folder with parts of another extraction is not complete; damaged ones are deleted."""
    images, output, other = tmp_path / "images.npy", tmp_path / "features", tmp_path / "other"
    assert extract(images, output, *command).exit_code == 0
    assert extract(images, other, *command, "--rows-per-part", 10).exit_code == 0
    stray = output / "part-00003-of-00004.parquet"
    shutil.copy(other / stray.name, stray)
    result = extract(images, output, *command)
    assert result.exit_code == 1
    assert f"{output} has parts of another extraction: --rows-per-part was 10, now 16; pass the same" in result.stderr

    stray.write_bytes(b"damaged")
    result = extract(images, output, *command)
    assert (result.exit_code, result.stderr) == (0, "resuming: 3 of 3 parts are done\n")
    assert len(pq.read_table(output)) == 40


def test_parts_that_another_process_writes_meanwhile_are_an_error(
    command: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One on another machine, whose lock was taken for that of a process that was killed."""
    output, finish = tmp_path / "features", PartWriter.finish

    def finish_both(writer: PartWriter) -> Counts:
        (output / "part-00000-of-00007.parquet").touch()
        return finish(writer)

    monkeypatch.setattr(PartWriter, "finish", finish_both)
    result = extract(tmp_path / "images.npy", output, *command)
    assert result.exit_code == 1
    assert "parts of another extraction, which were written meanwhile (part-00000-of-00007.parquet)" in result.stderr


def test_rows_are_counted_when_parts_are_joined(
    command: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file does not appear with fewer rows than images, and parts are kept."""
    output = tmp_path / "features.parquet"
    shorter = "partedvae.serving.extract.output.join.read_tables"
    with monkeypatch.context() as patch:
        patch.setattr(shorter, lambda *arguments: (table.slice(1) for table in read_tables(*arguments)))
        result = extract(tmp_path / "images.npy", output, *command)
    assert result.exit_code == 1
    assert f"Error: {output} would have 37 rows instead of 40: its parts were changed" in result.stderr
    assert not output.exists()
    assert extract(tmp_path / "images.npy", output, *command).stderr == "resuming: 3 of 3 parts are done\n"


def test_a_file_with_fewer_rows_than_images_is_not_complete(command: tuple[object, ...], tmp_path: Path) -> None:
    """Although its footer has all that identifies the extraction."""
    output = tmp_path / "features.parquet"
    assert extract(tmp_path / "images.npy", output, *command).exit_code == 0
    table: pa.Table = pq.read_table(output)
    pq.write_table(table.slice(1), output)
    result = extract(tmp_path / "images.npy", output, *command)
    assert result.exit_code == 1
    assert f"Error: {output} exists: it has 39 rows instead of 40; choose another --output, or pass" in result.stderr


def test_a_part_that_disappears_is_an_error(
    command: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are counted at the end, so that a run without some of them does not exit with 0."""
    output, finish = tmp_path / "features", PartWriter.finish
    lost = output / "part-00002-of-00003.parquet"

    def losing(writer: PartWriter) -> Counts:
        counts = finish(writer)
        lost.unlink(missing_ok=True)
        return counts

    monkeypatch.setattr(PartWriter, "finish", losing)
    result = extract(tmp_path / "images.npy", output, *command)
    assert result.exit_code == 1
    assert f"Error: {lost} is missing or damaged after it was written; run the command again" in result.stderr
    assert f"2 of 3 parts of {output} kept" in result.stderr
    monkeypatch.undo()
    assert extract(tmp_path / "images.npy", output, *command).stderr == "resuming: 2 of 3 parts are done\n"
    assert pq.read_table(output)["index"].to_pylist() == list(range(40))
