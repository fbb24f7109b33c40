"""labels.csv changed label by label: one value changes, and whatever others wrote stays."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import partedvae.common.labels_file as labels_file
from partedvae.common.atomic_write import atomic_write
from partedvae.common.data_error import DataError
from partedvae.common.labels_file import Labels, LabelsFile

NAMES = [f"imgs/{number}.png" for number in range(6)]
TEXT = "file,digit,split\nimgs/0.png,zwei,\nimgs/1.png,null bis eins,\nimgs/2.png,zwei,test\n"


def labels_of(folder: Path, content: bytes | None = TEXT.encode(), names: list[str] | None = None) -> LabelsFile:
    for name in names or NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if content is not None:
        (folder / "labels.csv").write_bytes(content)
    return LabelsFile(folder, names or NAMES)


def text_of(labels: LabelsFile) -> str:
    return labels.path.read_bytes().decode()


def test_the_labels_are_read(tmp_path: Path) -> None:
    labels = labels_of(tmp_path).read()
    assert labels.factors == ("digit",)
    assert labels.class_of("imgs/1.png", "digit") == "null bis eins"
    assert labels.class_of("imgs/5.png", "digit") == ""
    assert labels.classes("digit") == ("null bis eins", "zwei")
    assert labels.counts("digit") == {"zwei": 2, "null bis eins": 1}
    assert labels.labelled() == labels.labelled("digit") == {"imgs/0.png", "imgs/1.png", "imgs/2.png"}
    assert labels.tests == {"imgs/2.png"}


def test_a_file_that_is_missing_or_empty_is_created_with_a_header(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, None)
    assert labels.read() == Labels()
    assert labels.write("imgs/3.png", "digit", "2").class_of("imgs/3.png", "digit") == "2"
    assert text_of(labels) == "file,digit\nimgs/3.png,2\n"
    labels.path.write_bytes(b"\xef\xbb\xbf\r\n")
    labels.write("imgs/3.png", "digit", "2")
    assert text_of(labels) == "\ufefffile,digit\nimgs/3.png,2\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (TEXT.encode(), TEXT.replace("0.png,zwei", "0.png,drei") + "imgs/4.png,eins,\n"),
        (
            b"sep=;\r\n" + TEXT.replace(",", ";").replace("\n", "\r\n").encode(),
            "sep=;\r\n"
            + (TEXT.replace("0.png,zwei", "0.png,drei") + "imgs/4.png,eins,\n").replace(",", ";").replace("\n", "\r\n"),
        ),
        (
            TEXT.replace(",", "\t").encode("utf-16"),
            (TEXT.replace("0.png,zwei", "0.png,drei") + "imgs/4.png,eins,\n").replace(",", "\t"),
        ),
        (("\ufeff" + TEXT).encode("utf-16-be"), TEXT.replace("0.png,zwei", "0.png,drei") + "imgs/4.png,eins,\n"),
        (TEXT.encode("utf-8-sig"), TEXT.replace("0.png,zwei", "0.png,drei") + "imgs/4.png,eins,\n"),
        (TEXT.rstrip("\n").encode(), TEXT.replace("0.png,zwei", "0.png,drei") + "imgs/4.png,eins,\n"),
        (
            b"\n , ,\n" + TEXT.encode() + b",,\n , ,\n",
            "\n , ,\n" + TEXT.replace("0.png,zwei", "0.png,drei") + "imgs/4.png,eins,\n,,\n , ,\n",
        ),
        (
            TEXT.replace("\n", ",,\n").encode(),
            TEXT.replace("\n", ",,\n").replace("0.png,zwei", "0.png,drei") + "imgs/4.png,eins,\n",
        ),
        (
            TEXT.replace("imgs/", ".\\imgs\\").encode(),
            TEXT.replace("imgs/", ".\\imgs\\").replace("0.png,zwei", "0.png,drei") + "imgs/4.png,eins,\n",
        ),
    ],
    ids=["plain", "excel", "tabs-utf16", "utf16-be", "mark", "no-end", "blank-rows", "blank-columns", "windows"],
)
def test_one_value_changes_and_one_row_is_added(tmp_path: Path, content: bytes, expected: str) -> None:
    """The separator, the encoding with its mark, the line breaks and the blank rows stay."""
    labels = labels_of(tmp_path, content)
    labels.write("imgs/0.png", "digit", "drei")
    result = labels.write("imgs/4.png", "digit", "eins")
    mark = next((mark for mark in (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf") if content.startswith(mark)), b"")
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(mark, "utf-8")
    assert labels.path.read_bytes() == mark + expected.encode(encoding)
    assert result == labels.read()
    assert [result.class_of(name, "digit") for name in NAMES] == ["drei", "null bis eins", "zwei", "", "eins", ""]


def test_other_rows_and_columns_stay_byte_for_byte(tmp_path: Path) -> None:
    """Among them a row of a file that is not in the folder, quotes that none needs, and a value with a line break."""
    text = (
        'file,"who, when",digit,split\n"gone/7.png","a ""b"" c",nan,\n"imgs/0.png","x",zwei,train\n'
        "imgs/1.png, y , 1 ,\n"
    )
    labels = labels_of(tmp_path, text.encode())
    labels.write("imgs/1.png", "digit", "2")
    assert text_of(labels) == text.replace(", 1 ,", ",2,")
    labels.write("imgs/1.png", "who, when", 'says "no", then')
    assert text_of(labels) == text.replace(", y , 1 ,", ',"says ""no"", then",2,')


def test_a_factor_is_added_as_the_last_column(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, b'file;digit\r\n"imgs/0.png";1\r\n\r\n gone.png ;2')
    assert labels.write("imgs/1.png", "colour", "red; dark").factors == ("digit", "colour")
    assert text_of(labels) == (
        'file;digit;colour\r\n"imgs/0.png";1;\r\n\r\n gone.png ;2;\r\nimgs/1.png;;"red; dark"\r\n'
    )
    # Excel writes blank columns behind the table, and the new one takes the place of the first.
    labels.path.write_text("file,digit,,\nimgs/0.png,1,,\nimgs/1.png,2\n")
    labels.write("imgs/0.png", "colour", "red")
    assert text_of(labels) == "file,digit,colour,\nimgs/0.png,1,red,\nimgs/1.png,2,\n"


def test_clearing_a_value_undoes_writing_it(tmp_path: Path) -> None:
    labels = labels_of(tmp_path)
    assert labels.write("imgs/0.png", "digit", "").labelled() == {"imgs/1.png", "imgs/2.png"}
    assert text_of(labels) == TEXT.replace("0.png,zwei", "0.png,")
    labels.write("imgs/0.png", "digit", "zwei")
    assert text_of(labels) == TEXT
    before = labels.path.stat()
    labels.write("imgs/5.png", "digit", "")
    labels.write("imgs/0.png", "digit", "zwei")
    assert labels.path.stat().st_mtime_ns == before.st_mtime_ns, "what does not change is not written"


def test_names_of_all_kinds_are_found_again(tmp_path: Path) -> None:
    names = ["a, b.png", 'say "x".png', " spaces .png", "u\u0308.png", "line\nbreak.png", "-1", "sub/sub/é;.png"]
    if os.name == "posix":
        names.append(os.fsdecode(b"caf\xe9.png"))
    labels = labels_of(tmp_path, None, names)
    for number, name in enumerate(names):
        labels.write(name, "kind", f"k{number}")
    assert {name: labels.read().class_of(name, "kind") for name in names} == {
        name: f"k{number}" for number, name in enumerate(names)
    }
    for name in names:
        labels.write(name, "kind", "other")
    assert len(text_of(labels).splitlines()) == len(names) + 2, "each has one row, one of them with a line break"


def test_missing_values_are_not_known_unless_classes_csv_names_them(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, b"file,glasses\nimgs/0.png,none\nimgs/1.png,round\nimgs/2.png,NaN\n")
    assert labels.read().labelled("glasses") == {"imgs/1.png"}
    with pytest.raises(DataError, match=r"'none' counts as not known in labels.csv; .*\(.* then 'glasses,none'\)"):
        labels.write("imgs/3.png", "glasses", "none")
    (tmp_path / "classes.csv").write_text("factor,class\nglasses,none\n")
    assert labels.write("imgs/3.png", "glasses", "none").counts("glasses") == {"none": 2, "round": 1}


def test_classes_csv_may_name_a_class_of_a_factor_that_no_row_has(tmp_path: Path) -> None:
    """As the message of the page says before the first label of the factor is written."""
    labels = labels_of(tmp_path, b"file,kind\nimgs/0.png,a\n")
    with pytest.raises(DataError, match=r"'none' counts as not known in labels.csv; .* then 'glasses,none'"):
        labels.write("imgs/0.png", "glasses", "none")
    (tmp_path / "classes.csv").write_text("factor,class\nglasses,none\n")
    assert labels.read().counts("kind") == {"a": 1}
    assert labels.write("imgs/0.png", "glasses", "none").counts("glasses") == {"none": 1}


@pytest.mark.parametrize(
    ("factor", "value", "message"),
    [
        ("digit", "a\x07b", r"the class: 'a\\x07b' has a line break or another control character; remove it"),
        ("digit", "x" * 201, "the class: 'x{60}'… has 201 characters, more than the 200 of a name"),
        ("Split", "1", "a factor cannot be called 'Split'; choose another name"),
        ("z1", "1", "a factor cannot be called 'z1'; choose another name"),
        ("", "1", "a factor cannot be called ''; choose another name"),
    ],
)
def test_names_that_training_refuses_are_not_written(tmp_path: Path, factor: str, value: str, message: str) -> None:
    labels = labels_of(tmp_path)
    with pytest.raises(DataError, match=message):
        labels.write("imgs/0.png", factor, value)
    assert text_of(labels) == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,digit\nimgs/0.png,1\n", "line 1: no column is called 'file'"),
        (b"file,digit\nimgs/0.png\n", "line 2: 1 values for 2 columns"),
        (b"file,digit\nimgs/0.png,1\nimgs\\0.png,2\n", "line 3: 'imgs/0.png' is in line 2 already"),
        (b"file,digit\nimgs/0.png,\xe9\n", "line 2 has the byte 0xe9, which is not UTF-8"),
        (b"file,digit,split\nimgs/0.png,1,no\n", "line 2: split is 'no'; it must be train, test or blank"),
    ],
)
def test_a_file_that_is_invalid_is_an_error_and_stays(tmp_path: Path, content: bytes, message: str) -> None:
    labels = labels_of(tmp_path, content)
    with pytest.raises(DataError, match=re.escape(message)):
        labels.read()
    with pytest.raises(DataError, match=re.escape(message)):
        labels.write("imgs/1.png", "digit", "2")
    assert labels.path.read_bytes() == content


def test_rows_that_another_program_adds_meanwhile_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes between the reading and the replacement, once, without taking turns."""
    labels = labels_of(tmp_path)
    write = atomic_write
    others = ["imgs/5.png,fünf,\n"]

    @contextmanager
    def with_another_program(path: Path) -> Iterator[Path]:
        if others:
            path.write_text(path.read_text() + others.pop())
        with write(path) as temporary:
            yield temporary

    monkeypatch.setattr(labels_file, "atomic_write", with_another_program)
    result = labels.write("imgs/4.png", "digit", "vier")
    assert text_of(labels) == TEXT + "imgs/5.png,fünf,\nimgs/4.png,vier,\n"
    assert result.class_of("imgs/5.png", "digit") == "fünf"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imgs", "labels.csv"], "nothing is left beside"


def test_a_file_that_changes_all_the_time_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = labels_of(tmp_path)
    write = atomic_write

    @contextmanager
    def with_another_program(path: Path) -> Iterator[Path]:
        path.write_text(path.read_text() + "\n")
        with write(path) as temporary:
            yield temporary

    monkeypatch.setattr(labels_file, "atomic_write", with_another_program)
    with pytest.raises(DataError, match=r"labels.csv is changed by another program all the time; close it there"):
        labels.write("imgs/4.png", "digit", "vier")


def test_two_processes_lose_no_label_of_each_other(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(80)]
    labels = labels_of(tmp_path, None, names)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_label, args=(tmp_path, names, names[start::2])) for start in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert labels.read().counts("kind") == {"even": 40, "odd": 40}


def _label(folder: Path, names: list[str], own: list[str]) -> None:
    labels = LabelsFile(folder, names)
    for name in own:
        labels.write(name, "kind", "odd" if int(name.removesuffix(".png")) % 2 else "even")


def test_the_mode_of_the_file_and_a_link_to_it_stay(tmp_path: Path) -> None:
    labels = labels_of(tmp_path)
    labels.path.rename(tmp_path / "elsewhere.csv")
    labels.path.symlink_to("elsewhere.csv")
    (tmp_path / "elsewhere.csv").chmod(0o640)
    labels.write("imgs/0.png", "digit", "drei")
    assert labels.path.is_symlink()
    assert (tmp_path / "elsewhere.csv").read_text() == TEXT.replace("0.png,zwei", "0.png,drei")
    assert (tmp_path / "elsewhere.csv").stat().st_mode & 0o777 == 0o640
