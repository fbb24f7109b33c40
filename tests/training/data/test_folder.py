"""folder:PATH: the user's own images, and the errors for invalid ones."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from partedvae.common.fit import FITS
from partedvae.training.data import folder as folder_module
from partedvae.training.data.dataset import DataError
from partedvae.training.data.folder import describe_folder, load_folder
from partedvae.training.data.labelled import choose_labelled


def save(path: Path, shade: int = 0, size: tuple[int, int] = (40, 40), mode: str = "L") -> None:
    """Save an image of one shade; the size is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade if mode in ("L", "I;16") else (shade, 0, 0)).save(path)


def make_folder(path: Path, rows: str, count: int = 10, header: str = "file,animal,colour") -> Path:
    """Write grey images 0.png, 1.png, … whose shade is ten times their number, and a labels.csv."""
    for number in range(count):
        save(path / f"{number}.png", 10 * number)
    (path / "labels.csv").write_text(f"{header}\n{rows}", encoding="utf-8")
    return path


SPLIT_HEADER = "file,kind,split"
SPLIT = "0.png,a,train\n1.png,b,train\n2.png,a,test\n3.png,b,test\n"
ROWS = "0.png,cat,black\n1.png,cat,\n2.png,dog,white\n3.png,dog,black\n4.png,,white\n"


def test_labels_may_be_blank_and_images_without_a_row_are_unlabelled(tmp_path: Path) -> None:
    dataset = load_folder(make_folder(tmp_path, ROWS))
    assert dataset.info.name == f"folder:{tmp_path}"
    assert dataset.info.image_size == (32, 32, 1)
    assert [(f.name, f.classes, f.prior) for f in dataset.info.factors] == [
        ("animal", ("cat", "dog"), None),
        ("colour", ("black", "white"), None),
    ]
    labels = {}
    for split in (dataset.train, dataset.test):
        assert isinstance(split.images, Tensor)
        for pixels, row in zip(split.images, split.labels.tolist(), strict=True):
            labels[int(pixels[0, 0, 0]) // 10] = row
    assert labels == {
        **{number: [-1, -1] for number in range(5, 10)},
        **{0: [0, 0], 1: [0, -1], 2: [1, 1], 3: [1, 0], 4: [-1, 1]},
    }
    assert dataset.info.train_images == len(dataset.train) == 10 - len(dataset.test)
    # One of each class is for testing, and one of each is left for training.
    for column in range(2):
        assert set(dataset.test.labels[:, column].tolist()) >= {0, 1}
        assert set(dataset.train.labels[:, column].tolist()) >= {0, 1}
    assert torch.equal(load_folder(tmp_path).test.labels, dataset.test.labels)
    assert describe_folder(tmp_path) == dataset.info


def test_the_column_split_selects_the_test_images(tmp_path: Path) -> None:
    rows = "0.png,a,test\n1.png,b,test\n2.png,a,train\n3.png,b,\n4.png,,test\n"
    dataset = load_folder(make_folder(tmp_path, rows, header="file,kind,split"))
    assert [factor.name for factor in dataset.info.factors] == ["kind"]
    assert dataset.test.labels[:, 0].tolist() == [0, 1, -1]
    assert len(dataset.train) == 7


def test_an_image_with_several_names_is_read_once(tmp_path: Path) -> None:
    """By hard and symbolic links; a row of labels.csv may have any of the names, but not two of them."""
    make_folder(tmp_path, ROWS)
    before = load_folder(tmp_path)
    (tmp_path / "copies").mkdir()
    os.link(tmp_path / "0.png", tmp_path / "copies" / "0.png")
    (tmp_path / "copies" / "1.png").symlink_to(tmp_path / "1.png")
    after = load_folder(tmp_path)
    assert (len(after.train), len(after.test)) == (len(before.train), len(before.test))
    assert after.source == before.source
    assert f"left out of {tmp_path}: 2 linked to an image that is read already ({tmp_path}/copies/0.png, " in " ".join(
        after.notes
    )
    table = tmp_path / "labels.csv"
    table.write_text(table.read_text().replace("0.png", "copies/0.png"))
    assert torch.equal(load_folder(tmp_path).train.labels, before.train.labels)
    table.write_text(table.read_text() + "0.png,dog,white\n")
    with pytest.raises(DataError, match=r"line 7: '0\.png' is in line 2 already; keep one of them"):
        load_folder(tmp_path)


def test_test_images_that_are_copies_of_training_images_are_noted(tmp_path: Path) -> None:
    make_folder(tmp_path, SPLIT, header=SPLIT_HEADER)
    assert "copies" not in " ".join(load_folder(tmp_path).notes)
    shutil.copy(tmp_path / "2.png", tmp_path / "again.png")
    assert (
        "1 of 2 test images are copies of training images, such as 2.png of again.png: accuracies are too high; "
        "remove one of each two, or give both the same value in a column 'split'"
    ) in load_folder(tmp_path).notes


def test_labelled_images_may_be_listed_by_name(tmp_path: Path) -> None:
    rows = "0.png,a,test\n1.png,b,test\n2.png,a,train\n3.png,b,\n"
    train = load_folder(make_folder(tmp_path / "own", rows, header="file,kind,split")).train
    path = tmp_path / "mine.txt"
    path.write_text("3.png\n2.png\n")
    chosen = choose_labelled(train, None, 2, f"file:{path}", 0)
    assert chosen.tolist() == [1, 0]
    assert train.images[chosen][:, 0, 0, 0].tolist() == [30, 20]
    path.write_text("3.png\n1.png\n")
    with pytest.raises(DataError, match=r"mine.txt, line 2: '1.png' is held out for testing"):
        choose_labelled(train, None, 2, f"file:{path}", 0)


def test_an_unlabelled_image_does_not_change_the_test_images(tmp_path: Path) -> None:
    before = load_folder(make_folder(tmp_path, ROWS))
    for name in ("00.png", "5a.png", "z/0.png"):
        save(tmp_path / name, 250)
    after = load_folder(tmp_path)
    assert len(after.train) == len(before.train) + 3
    assert isinstance(before.test.images, Tensor)
    assert isinstance(after.test.images, Tensor)
    assert torch.equal(after.test.images, before.test.images)
    assert torch.equal(after.test.labels, before.test.labels)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(20, 48), (10, 10)], (32, 32, 1)),
        ([(49, 20), (60, 20), (8, 8)], (64, 64, 1)),
        ([(178, 218), (178, 218)], (218, 178, 1)),
        ([(178, 218), (218, 178)], (64, 64, 1)),
    ],
)
def test_the_size_follows_the_median_of_the_longer_sides(
    tmp_path: Path, sizes: list[tuple[int, int]], expected: tuple[int, int, int]
) -> None:
    make_folder(tmp_path, "0.png,a\n1.png,b\n", count=0, header="file,kind")
    for number, size in enumerate(sizes):
        save(tmp_path / f"{number}.png", size=size)
    assert describe_folder(tmp_path).image_size == expected


def test_formats_and_modes_are_mixed_in_subfolders_and_one_in_colour_makes_all_rgb(tmp_path: Path) -> None:
    rows = "a/0.png,x,test\nb/c/1.WEBP,y,test\n2.jpg,x,\n3.png,y,train\n"
    make_folder(tmp_path, rows, count=0, header="file,kind,split")
    save(tmp_path / "a/0.png", 200, mode="RGB")
    save(tmp_path / "b/c/1.WEBP", 100)
    save(tmp_path / "2.jpg", 50)
    Image.new("RGBA", (40, 40), (255, 255, 255, 0)).save(tmp_path / "3.png")
    save(tmp_path / "4.png", 32768, mode="I;16")
    (tmp_path / "notes.txt").write_text("not an image")
    dataset = load_folder(tmp_path)
    assert dataset.info.image_size == (32, 32, 3)
    assert isinstance(dataset.train.images, Tensor)
    assert dataset.train.images[:, 5, 5].tolist() == [[50] * 3, [0] * 3, [128] * 3]
    assert isinstance(dataset.test.images, Tensor)
    assert dataset.test.images[0, 5, 5].tolist() == [200, 0, 0]


def test_classes_that_are_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    rows = "0.png,10\n1.png,9\n2.png,2\n"
    assert describe_folder(make_folder(tmp_path, rows, header="file,age")).factors[0].classes == ("2", "9", "10")


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("file,animal", "0.png,cat\n99.png,dog\n", "line 3: .*99.png does not exist; paths are relative to the folder"),
        (
            "file,animal",
            f"0.png,cat\n{'x' * 300},dog\n",
            "labels.csv, line 3: 'x{300}' cannot be opened: File name too long; correct the path",
        ),
        ("file,animal", "0.png,cat\n1.png,dog\n0.png,dog\n", "line 4: '0.png' is in line 2 already; keep one of them"),
        ("file,animal", "0.png,cat\n./0.png,dog\n", "line 3: '0.png' is in line 2 already"),
        (
            "file,animal",
            "0.png,cat\n1.png,cat\n",
            "factor 'animal' has only the class 'cat', but at least two are needed; label images of another class too$",
        ),
        (
            "file,animal,split",
            "0.png,,\n1.png,,\n",
            "'animal' has no class, but at least two are needed; write the classes of some images into it$",
        ),
        (
            "file,animal,colour",
            "0.png,cat,\n1.png,dog,\n",
            "'colour' has no class, .* write the classes of some images into it, or remove its column$",
        ),
        (
            "file,animal,colour",
            "0.png,cat,red\n1.png,dog,red\n",
            "'colour' has only the class 'red', .* label images of another class too, or remove its column$",
        ),
        ("file,animal", "", "has no rows; add a line 'IMAGE,CLASS'"),
        ("file,animal", "0.png\n", "line 2: 1 values for 2 columns"),
        ("file,animal", ",cat\n", "line 2: the file is blank"),
        ("file,animal,split", "0.png,cat,val\n", "line 2: split is 'val'; it must be train, test or blank"),
        ("file,animal,split", "0.png,cat,\n1.png,dog,train\n", "has a column 'split' but no row with 'test'"),
        (
            "file,animal,split",
            "0.png,cat,test\n1.png,dog,test\n2.png,,train\n",
            "every row with a class has 'test' .* no label is left for training; write 'train' into some rows of each",
        ),
        (
            "file,animal,colour,split",
            "0.png,cat,red,\n1.png,dog,blue,\n2.png,,green,test\n",
            "every row with 'green' in the column 'colour' has 'test' in the column 'split'; write 'train' into",
        ),
        (
            "File,animal",
            "0.png,cat\n",
            "line 1: no column is called 'file'; rename the column 'File'.*: 'File', 'animal'",
        ),
        ("image,animal", "0.png,cat\n", "no column is called 'file'; give that name to the column of the image files"),
        (
            ",file,animal",
            "0,0.png,cat\n",
            "line 1: column 1 has no name; give it the name of a factor, or remove the col",
        ),
        ("file,animal", '0.png,"cat\n1.png,dog\n', "cannot be read as CSV: .*a quotation mark is not closed"),
        (
            "file,animal",
            '0.png,"cat\nred"\n1.png,dog\n',
            r"line 3: 'cat\\nred' has a line break or another control char",
        ),
        ("file,animal", f"0.png,{'x' * 201}\n1.png,dog\n", "line 2: 'x{60}'… has 201 characters, more than the 200 of"),
        ("file,ani\x1b[2Jmal", "0.png,cat\n", r"line 1: 'ani\\x1b\[2Jmal' has a line break or another control"),
        ("file,animal,Split", "0.png,cat,test\n", "line 1: unknown column 'Split'; did you mean 'split'"),
        ("file,animal,", "0.png,cat,x\n", "line 1: column 3 has no name"),
        ("file,animal,animal", "0.png,cat,cat\n", "line 1: two columns are called 'animal'"),
        ("file,split", "0.png,test\n", "line 1: no factor; add a column"),
        ("file,error", "0.png,cat\n1.png,dog\n", "labels.csv, line 1: a factor cannot be called 'error'"),
    ],
)
def test_the_error_for_an_invalid_table_has_file_and_line(tmp_path: Path, header: str, rows: str, message: str) -> None:
    make_folder(tmp_path, rows, header=header)
    with pytest.raises(DataError, match=message) as caught:
        load_folder(tmp_path)
    assert "labels.csv" in str(caught.value)
    with pytest.raises(DataError, match=message):
        describe_folder(tmp_path)


def test_the_error_names_a_missing_folder_and_a_missing_or_unreadable_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is not a folder; pass the folder of your images as folder:PATH"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    meant = re.escape(f"phtos is not a folder; did you mean folder:{tmp_path / 'photos'}?")
    with pytest.raises(DataError, match=meant):
        load_folder(tmp_path / "phtos")
    (tmp_path / "photos/.hidden").touch()
    with pytest.raises(DataError, match=r"contains no images \(.png, .*; left out: 1 hidden \(.*/photos/.hidden\)"):
        load_folder(tmp_path)
    save(tmp_path / "photos/a.png")
    with pytest.raises(DataError, match=r"labels.csv is missing; create it .*, such as 'photos/a.png,photos'"):
        load_folder(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"file,animal\n0.png,\xff\xfe\n")
    with pytest.raises(DataError, match=r"labels.csv cannot be read as CSV in UTF-8"):
        load_folder(tmp_path)
    (tmp_path / "labels.csv").write_bytes("file,animal\n0.png,cat\n1.png,caf\u00e9\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"line 3 has the byte 0xe9, which is not UTF-8; save it as UTF-8"):
        load_folder(tmp_path)
    (tmp_path / "labels.csv").write_bytes("file,animal\n0.png,cat\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"line 1 has a null character, as text in UTF-16 has; save it as UTF-8"):
        load_folder(tmp_path)
    if hasattr(os, "mkfifo"):
        (tmp_path / "labels.csv").unlink()
        os.mkfifo(tmp_path / "labels.csv")
        with pytest.raises(DataError, match=r"labels.csv cannot be read: neither a file nor a folder"):
            load_folder(tmp_path)


def test_the_error_names_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    make_folder(tmp_path, ROWS)
    (tmp_path / "7.png").write_bytes(b"%PDF-1.7")
    with pytest.raises(DataError, match=r"7.png cannot be read as an image"):
        describe_folder(tmp_path)
    save(tmp_path / "7.png", size=(200, 200))
    content = (tmp_path / "7.png").read_bytes()
    (tmp_path / "7.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"7.png cannot be read as an image: .*truncated"):
        load_folder(tmp_path)


def test_images_above_the_memory_limit_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "LIMIT", 10_000)
    with pytest.raises(DataError, match=r"10 images of 32x32 need 0.0 GB of memory, more than the 0 GB"):
        load_folder(make_folder(tmp_path, ROWS))


def test_markers_of_missing_values_are_not_classes_and_are_noted(tmp_path: Path) -> None:
    rows = "0.png,cat\n1.png,dog\n2.png,nan\n3.png,None\n4.png,NA\n5.png,-1\n6.png,nan\n7.png,cat\n8.png,#N/A\n"
    dataset = load_folder(make_folder(tmp_path, rows + "9.png,dog\n", header="file,animal"))
    assert dataset.info.factors[0].classes == ("cat", "dog")
    (note,) = dataset.notes
    assert "values of 'animal' that count as not known: 'nan' 2, 'None' 1, 'NA' 1, '-1' 1, '#N/A' 1;" in note
    assert "name it in classes.csv (first line 'factor,class', then 'animal,nan')" in note


def test_classes_csv_makes_a_marker_a_class(tmp_path: Path) -> None:
    make_folder(tmp_path, "0.png,none\n1.png,round\n2.png,none\n3.png,round\n", header="file,glasses")
    with pytest.raises(DataError, match=r"'glasses' has only the class 'round'.*'none' 2; .*name it in classes.csv"):
        load_folder(tmp_path)
    (tmp_path / "classes.csv").write_text("factor,class\nglasses,none\n")
    dataset = load_folder(tmp_path)
    assert dataset.info.factors[0].classes == ("none", "round")
    assert dataset.notes == ()
    assert "classes.csv" in dataset.source
    (tmp_path / "classes.csv").write_text("factor,class\nglasses,NONE\nglasses,rund\n")
    dataset = load_folder(tmp_path)
    assert dataset.info.factors[0].classes == ("none", "round")
    assert dataset.notes == ("classes.csv: no value of 'glasses' is 'rund'; did you mean 'round'?",)
    (tmp_path / "classes.csv").write_text("factor,class\nglases,none\n")
    with pytest.raises(DataError, match=r"classes.csv, line 2: .*no factor 'glases'; did you mean 'glasses'"):
        load_folder(tmp_path)


def test_all_damaged_images_are_in_one_error_of_bounded_length(tmp_path: Path) -> None:
    make_folder(tmp_path, ROWS, count=30)
    for number in range(5, 20):
        content = (tmp_path / f"{number}.png").read_bytes()
        (tmp_path / f"{number}.png").write_bytes(content[:60] if number % 2 else b"nonsense")
    for read in (load_folder, describe_folder):
        with pytest.raises(DataError) as caught:
            read(tmp_path)
        lines = str(caught.value).splitlines()
        assert lines[0] == "15 images cannot be used:"
        assert lines[1].startswith("  10.png cannot be read as an image: not an image")
        assert lines[-1] == "  … and 5 more"
        assert len(lines) == 12


def test_all_wrong_rows_are_in_one_error(tmp_path: Path) -> None:
    make_folder(tmp_path, "0.png,cat\nx.png,dog\n1.png\n0.png,dog\n", header="file,animal")
    with pytest.raises(
        DataError, match=r"3 rows of .*\n.*line 3: .*x.png does not exist.*\n.*line 4: 1 values.*\n.*line 5"
    ):
        load_folder(tmp_path)


def test_wrong_rows_and_images_that_are_none_are_in_one_error(tmp_path: Path) -> None:
    make_folder(tmp_path, "0.png,cat\nx.png,dog\n", header="file,animal")
    for number in (3, 4):
        (tmp_path / f"{number}.png").write_bytes(b"<html>" if number == 4 else b"")
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    lines = str(caught.value).splitlines()
    assert "line 3" in lines[0]
    assert "x.png does not exist" in lines[0]
    assert lines[1] == "2 images cannot be used:"
    assert "3.png cannot be read as an image: no bytes" in lines[2]
    assert "4.png cannot be read as an image: not an image" in lines[3]


def test_names_in_another_unicode_form_are_the_same(tmp_path: Path) -> None:
    make_folder(tmp_path, "0.png,caf\u00e9\n1.png,cafe\u0301\n2.png,b\n3.png,b\ncaf\u00e9.png,b\n", header="file,kind")
    save(tmp_path / "cafe\u0301.png", 5)
    dataset = load_folder(tmp_path)
    assert dataset.info.factors[0].classes == ("b", "caf\u00e9")
    assert len(dataset.train) + len(dataset.test) == 11


def patterned(path: Path, width: int, height: int, seed: int = 0) -> None:
    """Save an image of noise without black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.Generator(np.random.PCG64(seed))
    Image.fromarray(random.integers(1, 256, (height, width), dtype=np.uint8)).save(path)


def test_images_of_another_shape_are_fitted(tmp_path: Path) -> None:
    """A wide image of 60x30 in 64x64: padded by 16 rows above and below, or cropped to its middle 30x30."""
    make_folder(tmp_path, SPLIT, count=0, header=SPLIT_HEADER)
    for number in range(4):
        patterned(tmp_path / f"{number}.png", 60, 30, number)
    wide, bilinear = Image.open(tmp_path / "0.png"), Image.Resampling.BILINEAR
    stretched, padded, cropped = (load_folder(tmp_path, fit).train.images[torch.tensor([0])][0] for fit in FITS)
    assert torch.equal(stretched[..., 0], torch.from_numpy(np.array(wide.resize((64, 64), bilinear))))
    assert torch.equal(padded[16:48, :, 0], torch.from_numpy(np.array(wide.resize((64, 32), bilinear))))
    assert not padded[:16].any()
    assert not padded[48:].any()
    middle = wide.resize((64, 64), bilinear, box=(15, 0, 45, 30))
    assert torch.equal(cropped[..., 0], torch.from_numpy(np.array(middle)))


@pytest.mark.parametrize(
    ("sizes", "note"),
    [
        ([(160, 90)], "1 of 12 images is not square (up to 16:9) and is stretched to 32x32"),
        ([(90, 160), (40, 30), (41, 40)], "2 of 12 images are not square (up to 9:16) and are stretched to 32x32"),
        ([(40, 1), (40, 10), (10, 40)], "3 of 12 images are not square (up to 40:1) and are stretched to 32x32"),
        ([(4032, 3024)] * 8, "8 of 12 images are not square (up to 4:3) and are stretched to 64x64"),
        ([(44, 40)] * 8, ""),
        ([], ""),
    ],
)
def test_stretched_images_are_noted(tmp_path: Path, sizes: list[tuple[int, int]], note: str) -> None:
    """With their number and the largest aspect ratio, unless it is at most 1.1, or they are padded or cropped."""
    make_folder(tmp_path, SPLIT, count=12 - len(sizes), header=SPLIT_HEADER)
    for number, size in enumerate(sizes):
        save(tmp_path / f"other{number}.png", size=size)
    expected = (f"{note}; --fit pad or --fit crop keeps their shape",) if note else ()
    assert load_folder(tmp_path).notes == expected
    assert load_folder(tmp_path, "pad").notes == load_folder(tmp_path, "crop").notes == ()


def test_a_photo_that_is_stored_rotated_is_noted_as_it_is_seen(tmp_path: Path) -> None:
    make_folder(tmp_path, SPLIT, count=11, header=SPLIT_HEADER)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (160, 90)).save(tmp_path / "tall.jpg", exif=exif)
    assert "1 of 12 images is not square (up to 9:16)" in load_folder(tmp_path).notes[0]


def test_what_is_left_out_is_noted(tmp_path: Path) -> None:
    make_folder(tmp_path, ROWS)
    (tmp_path / "x.heic").write_bytes(bytes(24))
    (tmp_path / "._0.png").write_bytes(b"\0\5\26\7")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)  # As where it is not installed.
        notes = load_folder(tmp_path).notes
    assert sorted(notes) == [
        f"left out of {tmp_path}: 1 ending in .heic, which needs pip install 'partedvae[heic]' ({tmp_path}/x.heic)",
        f"left out of {tmp_path}: 1 hidden ({tmp_path}/._0.png)",
    ]


def test_a_folder_without_labels_is_read_for_training_without_labels(tmp_path: Path) -> None:
    """Its factor has ten classes, which are clusters; a tenth of the images, but at least two, are for testing."""
    for number in range(30):
        save(tmp_path / f"{number}.png", number)
    with pytest.raises(DataError, match=r"labels.csv is missing; create it"):
        load_folder(tmp_path)
    dataset = load_folder(tmp_path, labels="optional")
    assert describe_folder(tmp_path, "optional") == dataset.info
    assert [(factor.name, len(factor.classes)) for factor in dataset.info.factors] == [("cluster", 10)]
    assert dataset.info.labelled_images == 0
    assert (len(dataset.train), len(dataset.test)) == (27, 3)
    assert set(dataset.train.labels.flatten().tolist()) == {-1}
    assert dataset.notes == ("the classes are 10 groups of similar images, as labels.csv is not used",)
    assert list(dataset.source) == ["30 images"]
    for content in ("", "file,kind\n", "file\n0.png\n", "file,kind\n0.png,a\n", "file,kind\n0.png,a\n1.png,\n"):
        (tmp_path / "labels.csv").write_text(content)
        assert load_folder(tmp_path, labels="optional").source == dataset.source
        with pytest.raises(DataError, match=r"labels.csv"):
            load_folder(tmp_path)


def test_labels_are_used_without_being_needed_unless_they_are_ignored(tmp_path: Path) -> None:
    make_folder(tmp_path, SPLIT, header=SPLIT_HEADER)
    assert load_folder(tmp_path, labels="optional").info == load_folder(tmp_path).info
    ignored = load_folder(tmp_path, labels="ignored")
    assert [factor.name for factor in ignored.info.factors] == ["cluster"]
    assert len(ignored.test) == 2
    (tmp_path / "labels.csv").write_text("file,kind\n0.png\n")
    with pytest.raises(DataError, match="line 2: 1 values for 2 columns"):
        load_folder(tmp_path, labels="optional")


def test_images_without_labels_are_held_out_where_labels_are_too_few(tmp_path: Path) -> None:
    """All labels are left for training: with one label of each class, none can be held out."""
    make_folder(tmp_path, "0.png,cat\n1.png,dog\n2.png,hen\n", count=40, header="file,animal")
    dataset = load_folder(tmp_path)
    assert sorted(dataset.train.labels[:, 0].tolist())[-3:] == [0, 1, 2]
    assert dataset.test.labels[:, 0].tolist() == [-1] * 4
    assert dataset.info.labelled_images == 3
    (tmp_path / "labels.csv").write_text("file,animal\n" + "".join(f"{n}.png,{n}\n" for n in range(37)))
    with pytest.raises(DataError, match=r"it has 0 test images, and at least 2 are needed; label more images"):
        load_folder(tmp_path)
