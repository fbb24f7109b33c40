"""The options of the input on the command line."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.serving.extraction import extract


@pytest.fixture
def table(folder: Path) -> Path:
    """Write a table of some images of the folder."""
    (folder / "list.csv").write_text("file,label,split\n00.png,7,a\ndeep/01.png,8,b\nmissing.png,9,\n")
    return folder / "list.csv"


def test_columns_of_a_table_are_passed_on(table: Path, tiny_models: Path, tmp_path: Path) -> None:
    output = tmp_path / "features.parquet"
    options = ("--columns", "label, split", "--path-style", "absolute", "--model", tiny_models / "tiny")
    result = extract(table, output, *options)
    assert result.exit_code == 0, result.output
    rows = pq.read_table(output)
    assert rows.column_names[:3] == ["path", "label", "split"]
    assert rows["label"].to_pylist() == [7, 8, 9]
    assert rows["split"].to_pylist() == ["a", "b", ""]
    assert rows["path"].to_pylist() == [str(table.parent / name) for name in ("00.png", "deep/01.png", "missing.png")]
    assert rows["error"].to_pylist() == [None, None, "No such file or directory"]


@pytest.mark.parametrize(
    ("given", "options", "code", "message"),
    [
        ("", (), 2, "Invalid value for 'INPUT': the path is empty; the current folder is '.'"),
        ("nowhere", (), 1, "Error: nowhere does not exist: pass a folder of images"),
        ("list.csv", ("--path-style", "odd"), 2, "'odd' is not one of 'relative', 'as-given', 'absolute', 'url'"),
        ("list.csv", ("--read-timeout", "0"), 2, "0.0 is not in the range x>0"),
        ("list.csv", ("--read-timeout", "inf"), 2, "'inf' is not a finite number"),
        ("list.csv", ("--columns", ""), 0, ""),
        (
            "list.csv",
            ("--columns", "lable"),
            1,
            "Error: list.csv has no column 'lable' to pass on; did you mean 'label'?",
        ),
        ("list.csv", ("--path-column", " "), 2, "Invalid value for '--path-column': the value is empty"),
        ("list.csv", ("--data", "s3://x/y"), 2, "Invalid value for '--data': 's3://x/y' is a URL"),
    ],
)
def test_bad_options_are_named(
    given: str,
    options: tuple[str, ...],
    code: int,
    message: str,
    table: Path,
    tiny_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(table.parent)
    result = extract(given, tmp_path / "f.parquet", *options, "--model", tiny_models / "tiny")
    assert result.exit_code == code
    assert message in result.stderr
    assert (tmp_path / "f.parquet").exists() is (code == 0)
