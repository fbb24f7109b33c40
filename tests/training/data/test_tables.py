"""labels.csv as spreadsheets, Windows and careless typists write it: the same labels, or an error that says why not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from partedvae.common.labels_file import LabelsFile
from partedvae.training.data.dataset import DataError
from partedvae.training.data.folder import load_folder
from partedvae.training.data.labelled import choose_labelled
from partedvae.training.data.labels_csv import read_table

ROWS = [("imgs/0.png", "zwei", ""), ("imgs/1.png", "null bis eins", ""), ("imgs/2.png", "zwei", "test")]
ROWS += [("imgs/3.png", "null bis eins", "test"), ("imgs/4.png", "zwei", "")]
TEXT = "file,digit,split\n" + "".join(",".join(row) + "\n" for row in ROWS)


def make_images(folder: Path, *names: str) -> Path:
    (folder / "imgs").mkdir(parents=True)
    for shade, name in enumerate(names or [f"imgs/{number}.png" for number in range(6)]):
        Image.new("L", (20, 20), shade).save(folder / name)
    return folder


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.replace(",", ";").encode("utf-8-sig"),
        TEXT.replace(",", "\t").encode("utf-16"),
        ("\ufeff" + TEXT).replace("\n", "\r\n").encode("utf-16-be"),
        TEXT.replace("\n", "\r").encode(),
        b"sep=;\r\n" + TEXT.replace(",", ";").replace("\n", "\r\n").encode(),
        b"\n , ,\n" + TEXT.encode() + b",,\n , ,\n",
        TEXT.replace("\n", ",,\n").encode(),
        TEXT.replace(",", " , ").encode(),
        TEXT.replace("imgs/", ".\\imgs\\").encode(),
        TEXT.replace("imgs/", "./imgs//").encode(),
        TEXT.replace("imgs/", "linked/").encode(),
    ],
    ids=[
        *("plain", "semicolons", "tabs-utf16", "utf16-be", "cr", "sep", "blank-rows", "blank-columns", "spaces"),
        *("windows", "dots", "linked"),
    ],
)
def test_all_ways_to_write_a_table_give_the_same_labels(tmp_path: Path, content: bytes) -> None:
    """No image appears twice: once with its label, and once without or in the other half."""
    (make_images(tmp_path) / "labels.csv").write_bytes(content)
    (tmp_path / "linked").symlink_to("imgs")
    dataset = load_folder(tmp_path)
    assert [(factor.name, factor.classes) for factor in dataset.info.factors] == [("digit", ("null bis eins", "zwei"))]
    assert dataset.train.files is not None
    assert dataset.train.files.names == ("imgs/0.png", "imgs/1.png", "imgs/4.png", "imgs/5.png")
    assert dataset.train.labels[:, 0].tolist() == [1, 0, 1, -1]
    assert dataset.train.files.held_out == {"imgs/2.png", "imgs/3.png"}
    assert dataset.test.labels[:, 0].tolist() == [1, 0]


@pytest.mark.skipif(os.name != "posix", reason="names have other bytes")
def test_files_with_unusual_names_are_found(tmp_path: Path) -> None:
    latin = os.fsdecode(b"imgs/caf\xe9.png")
    names = [" 0.png", "a\nb.png", "-x.png", "%41#.png", "imgs/e\u0301.png", latin, "imgs/\U0001f431.png"]
    make_images(tmp_path, *names)
    written = [
        " 0.png",
        '"a\nb.png"',
        "-x.png",
        "%41#.png",
        "imgs\\\u00e9.png",
        r"imgs/caf\xe9.png",
        "imgs/\U0001f431.png",
    ]
    rows = "".join(f"{name},{'ab'[i % 2]},{'test' if i > 4 else ''}\n" for i, name in enumerate(written))
    (tmp_path / "labels.csv").write_text(f"file,kind,split\n{rows}", encoding="utf-8")
    dataset = load_folder(tmp_path)
    assert dataset.train.files is not None
    assert {*dataset.train.files.names, *dataset.train.files.held_out} == set(names)
    assert dataset.info.labelled_images == 5
    listed = tmp_path / "list.txt"
    listed.write_bytes(" 0.png\r\nimgs\\\u00e9.png\r\n".encode("utf-16"))
    chosen = choose_labelled(dataset.train, None, 2, f"file:{listed}", 0)
    assert [dataset.train.files.names[index] for index in chosen] == [" 0.png", "imgs/e\u0301.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imgs/0.PNG", "imgs/0.PNG does not exist; paths are relative to the folder; did you mean 'imgs/0.png'?"),
        ("0.png", "0.png does not exist; paths are relative to the folder; did you mean 'imgs/0.png'?"),
        ("imgs/0", "imgs/0 does not exist; paths are relative to the folder; did you mean 'imgs/0.png'?"),
        ("C:\\me\\0.png", "C:\\me\\0.png does not exist; paths are relative to the folder; did you mean 'imgs/0.png'?"),
        (
            "..\\a\\0.png",
            "'..\\a\\0.png' is outside the folder; write a path relative to the folder; did you mean 'imgs",
        ),
        (
            "{folder}/imgs/0.png",
            "/imgs/0.png' is not relative to the folder; write it without the folder; did you mean",
        ),
    ],
)
def test_the_error_for_a_missing_file_has_the_nearest_image(tmp_path: Path, name: str, message: str) -> None:
    table = TEXT.replace("imgs/0.png", name.format(folder=tmp_path))
    (make_images(tmp_path) / "labels.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    assert f"{tmp_path}/labels.csv, line 2: " in str(caught.value)
    assert message in str(caught.value)


def test_one_file_under_two_names_is_in_two_rows(tmp_path: Path) -> None:
    (make_images(tmp_path) / "labels.csv").write_text(TEXT + "imgs\\0.png,zwei,test\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 7: 'imgs/0.png' is in line 2 already; keep one of them"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "01"), ("1", "1.0"), ("cat", "cat\u200b"), ("a cat", "a\u00a0Cat"), ("\uff11", "1")]
)
def test_classes_that_look_alike_are_noted(tmp_path: Path, one: str, other: str) -> None:
    rows = "".join(f"imgs/{number}.png,{(one, other, 'dog')[number % 3]}\n" for number in range(6))
    (make_images(tmp_path) / "labels.csv").write_text(f"file,kind\n{rows}", encoding="utf-8")
    (note,) = load_folder(tmp_path).notes
    first, second = sorted((one, other), key=lambda name: load_folder(tmp_path).info.factors[0].classes.index(name))
    assert note == f"labels.csv: {first!r} and {second!r} of 'kind' are two classes; correct one if not"


def test_a_column_that_numbers_the_images_is_named(tmp_path: Path) -> None:
    rows = "".join(f"{number},imgs/{number}.png,{number % 2}\n" for number in range(6))
    (make_images(tmp_path) / "labels.csv").write_text(f"Unnamed: 0,file,kind\n{rows}", encoding="utf-8")
    with pytest.raises(DataError, match=r"0 test images.*each image has a class of its own in 'Unnamed: 0': remove"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"sep=;\r\n" + TEXT.replace(",", ";").replace("\n", "\r\n").encode(),
        TEXT.replace(",", "\t").encode("utf-16"),
        TEXT.encode("utf-8-sig"),
        TEXT.replace("\n", ",,\n").encode(),
        b"\n , ,\n" + TEXT.encode() + b",,\n",
        b"file,weight\nimgs/0.png,NaN\n",
    ],
    ids=["new", "excel", "utf16", "mark", "blank-columns", "blank-rows", "other-factor"],
)
def test_labels_that_are_written_one_by_one_are_read(tmp_path: Path, content: bytes | None) -> None:
    """`LabelsFile` writes what training reads, into a table of any kind; a name has the separator in it."""
    names = [*(f"imgs/{number}.png" for number in range(6)), "imgs/a;b, c\t.png"]
    make_images(tmp_path, *names)
    if content is not None:
        (tmp_path / "labels.csv").write_bytes(content)
    labels = LabelsFile(tmp_path, names)
    for number, name in enumerate(names):
        labels.write(name, "digit", ["zwei", "null, eins"][number % 2])
    labels.write("imgs/0.png", "weight", "heavy")
    labels.write("imgs/1.png", "weight", "light")
    table = read_table(tmp_path, names)
    digit = [factor.name for factor in table.factors].index("digit")
    assert table.factors[digit].classes == ("null, eins", "zwei")
    assert {name: table.labels[name][digit] for name in names} == {
        name: 1 - number % 2 for number, name in enumerate(names)
    }
    has_split = content is not None and b"weight" not in content
    assert table.tests == (frozenset({"imgs/2.png", "imgs/3.png"}) if has_split else None)
