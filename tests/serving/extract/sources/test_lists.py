"""Lists of paths, as text and as tables, and Parquet files with images in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources import parquet_images
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import ALL_COLUMNS, InputOptions
from tests.serving.extract.sources.reading import IMAGES, png, read, read_part, write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path, ["a.png", "b/c.png", "d;e.png"])
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("name", "separator"), [("x.csv", ","), ("x.csv", ";"), ("x.tsv", "\t")])
def test_a_table_of_text(encoding: str, name: str, separator: str, folder: Path) -> None:
    """With the column of paths known by its name, quoted names, and the types of the columns that are passed on."""
    lines = [
        ["id", "File", "label", "score"],
        ["1", "a.png", "cät", "0.5"],
        ["2", '"d;e.png"', "", "2"],
        ["x", "b/c.png", "3", ""],
        ["4", "", "", "-1"],
    ]
    (folder / name).write_bytes("\r\n".join(map(separator.join, lines)).encode(encoding))
    rows = read(folder / name, columns=("score", "label", "id"))
    assert rows.keys == ["a.png", "d;e.png", "b/c.png", ""]
    assert rows.errors == [None, None, None, "the path is empty"]
    np.testing.assert_array_equal(rows.images, IMAGES[[0, 2, 1]])
    assert rows.columns == {
        "score": [0.5, 2.0, None, -1.0],
        "label": ["cät", "", "3", ""],
        "id": ["1", "2", "x", "4"],
    }
    assert read(folder / name).columns == {}
    assert list(read(folder / name, columns=ALL_COLUMNS).columns) == ["id", "label", "score"]


def test_a_parquet_file_of_paths(folder: Path) -> None:
    """Its columns keep their types, also nested ones; --root and --path-column choose where the files are."""
    table = pa.table(
        {
            "image_id": pa.array(["c.png", "missing.png"] * 20).dictionary_encode(),
            "box": pa.array([[1, 2], None] * 20, pa.list_(pa.int16())),
            "path": ["nowhere"] * 40,
        }
    )
    pq.write_table(table, folder / "list.parquet", row_group_size=7)
    source = open_source(
        folder / "list.parquet", InputOptions(path_column="image_id", columns=("box",), root=str(folder / "b"))
    )
    assert source.columns == pa.schema({"box": pa.list_(pa.field("element", pa.int16()))})
    rows = read_part(source.part(19, 40))
    assert rows.keys == ["missing.png", *["c.png", "missing.png"] * 10]
    assert rows.errors == ["No such file or directory", *[None, "No such file or directory"] * 10]
    assert rows.columns == {"box": [None, *[[1, 2], None] * 10]}
    assert rows.images.shape == (10, 8, 6, 1)


@pytest.mark.parametrize("kind", ["struct", "binary"])
def test_a_parquet_file_of_images(kind: str, folder: Path) -> None:
    """As Hugging Face writes them; rows are numbered, and parts need not begin with row groups."""
    contents = [png(number) for number in range(9)] + [None, b"no image"]
    structs = [{"bytes": content, "path": f"{number}.png"} for number, content in enumerate(contents)]
    images = pa.array(structs) if kind == "struct" else pa.array(contents, pa.binary())
    table = pa.table({"image": images, "label": range(11)})
    pq.write_table(table, folder / "images.parquet", row_group_size=4)
    source = open_source(folder / "images.parquet", InputOptions(columns=("label",)))
    assert source.key == "index"
    rows = read_part(source.part(3, 11), batch_size=2)
    assert rows.keys == rows.columns["label"] == list(range(3, 11))
    np.testing.assert_array_equal(rows.images, IMAGES[3:9])
    assert rows.errors[:6] == [None] * 6
    assert rows.errors[6:] == [
        "no bytes: send a PNG, JPEG, WebP, BMP, TIFF or GIF file",
        "not an image (it starts with b'no image'): send a PNG, JPEG, WebP, BMP, TIFF or GIF file",
    ]


def test_few_large_images_are_in_a_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": [png(number) for number in range(9)]}), folder / "images.parquet")
    part = open_source(folder / "images.parquet").part(0, 9)
    assert len(list(part.jobs(256))) == 1
    monkeypatch.setattr(parquet_images, "BATCH_BYTES", 3 * len(png(0)))
    assert len(list(part.jobs(256))) > 2
    np.testing.assert_array_equal(read_part(part, 256).images, IMAGES[:9])


def test_the_hash_of_a_list_is_that_of_its_rows(folder: Path) -> None:
    (folder / "x.csv").write_text("path,label\na.png,1\nb/c.png,2\n")
    (folder / "y.csv").write_text("path,label\r\na.png,1\r\nb/c.png,3\r\n")
    one, other = folder / "x.csv", folder / "y.csv"
    assert open_source(one).manifest_hash == open_source(other).manifest_hash
    labelled = InputOptions(columns=("label",))
    hashes = {
        open_source(path, options).manifest_hash for path in (one, other) for options in (labelled, InputOptions())
    }
    assert len(hashes) == 3


def test_a_list_of_any_length_is_read_in_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line ends may be divided between them."""
    monkeypatch.setattr("partedvae.common.text_files.CHUNK", 3)
    names = ["a.png", "b/c.png", "nön.png", "x"]
    for end in ("\n", "\r\n", "\r"):
        (folder / "list.txt").write_bytes(("\ufeff" + end.join([*names, "", ""])).encode())
        assert read(folder / "list.txt").keys == names
    (folder / "list.txt").write_bytes(b"a\r\nb\r\n\0c")
    with pytest.raises(InvalidInputError, match="line 3 has a null character"):
        open_source(folder / "list.txt")


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("x.csv", b"", {}, "x.csv cannot be read as a table: Empty CSV file"),
        ("x.csv", b"path\n", {}, "x.csv contains no images"),
        ("x.csv", b"a,b\n1,2\n", {}, "x.csv has no column of paths; pass --path-column with one of: a, b"),
        (
            "x.csv",
            b"path,url,c\n1,2,3\n",
            {},
            "x.csv has columns that may have the paths: path, url; pass --path-column with one of: path, url, c",
        ),
        (
            "x.csv",
            b"path,label\n1,2\n",
            {"path_column": "lable"},
            "x.csv has no column 'lable'; did you mean 'label'? (there are: path, label)",
        ),
        (
            "x.csv",
            b"path,label\n1,2\n",
            {"columns": ("lable",)},
            "x.csv has no column 'lable' to pass on; did you mean 'label'? (there are: label)",
        ),
        (
            "x.csv",
            b"path,label\n1,2\n1\n",
            {},
            "x.csv cannot be read as a table: CSV parse error: ",
        ),
        ("x.csv", b"path,path\n1,2\n", {}, "x.csv has columns that may have the paths: path, path;"),
        ("x.parquet", b"PAR1", {}, "x.parquet cannot be read as a Parquet file: "),
        ("x.txt", b"a.png", {"columns": ("a",)}, "x.txt has one path per line, and no columns: --columns and"),
    ],
)
def test_bad_lists_are_refused(
    name: str, content: bytes, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        open_source(name, InputOptions(**options))
    assert str(caught.value).startswith(message)


def test_a_column_that_hides_one_of_the_output_is_refused(folder: Path) -> None:
    (folder / "x.csv").write_text("path,error\na.png,1\n")
    with pytest.raises(InvalidInputError, match=r"the column 'error' of .*x.csv has the name of one of the output"):
        open_source(folder / "x.csv", InputOptions(columns=("error",)))
