"""The loader of CelebA, on a small fixture in exactly the official layout and file formats."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from partedvae.training.data.celeba import celeba_is_available, load_celeba
from partedvae.training.data.dataset import DataError, ImageDataset

ATTRIBUTES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
Wearing_Necktie Young
"""
"""All forty attributes, in the order of the official file."""

PEOPLE: list[tuple[int, set[str]]] = [
    (0, {"Black_Hair", "No_Beard", "Smiling", "Bangs"}),
    (0, {"Brown_Hair", "Male", "Receding_Hairline", "Eyeglasses"}),
    (1, {"Blond_Hair", "No_Beard"}),
    (0, {"Brown_Hair", "Black_Hair", "No_Beard", "Bangs", "Receding_Hairline"}),
    (2, {"Gray_Hair", "Male", "No_Beard", "Wearing_Hat"}),
    (2, {"No_Beard", "Smiling"}),
]
"""Part and attributes of each image."""


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (178, 218), (shade, 255 - shade, 40)).save(file, "JPEG", quality=95)
    return file.getvalue()


def make_celeba(data_dir: Path, *, packed: bool = False) -> Path:
    """Write the fixture in the layout of the download."""
    folder = data_dir / "celeba"
    folder.mkdir(parents=True)
    names = [f"{index:06}.jpg" for index in range(1, len(PEOPLE) + 1)]
    lines = [str(len(PEOPLE)), " ".join(ATTRIBUTES.split()) + " "]
    for name, (_, has) in zip(names, PEOPLE, strict=True):
        lines.append(name + " " + " ".join(" 1" if attribute in has else "-1" for attribute in ATTRIBUTES.split()))
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    parts = [f"{name} {part}" for name, (part, _) in zip(names, PEOPLE, strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    images = {name: jpeg(30 * index) for index, name in enumerate(names)}
    if packed:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for name, content in images.items():
                archive.writestr(f"img_align_celeba/{name}", content)
    else:
        (folder / "img_align_celeba").mkdir()
        for name, content in images.items():
            (folder / "img_align_celeba" / name).write_bytes(content)
    return folder


def classes(dataset: ImageDataset, labels: torch.Tensor) -> list[str | None]:
    return [
        factor.classes[label] if label >= 0 else None
        for factor, label in zip(dataset.info.factors, labels.tolist(), strict=True)
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_the_official_split_and_labels_are_read_and_images_decoded_in_any_order(tmp_path: Path, packed: bool) -> None:
    make_celeba(tmp_path, packed=packed)
    assert celeba_is_available(tmp_path)
    dataset = load_celeba(tmp_path)
    assert dataset.info.train_images == 3
    assert dataset.train.images.shape == (3, 218, 178, 3)
    assert dataset.test.images.shape == (2, 218, 178, 3)
    pixels = dataset.train.images[torch.tensor([2, 0])].float().mean(dim=(1, 2))
    assert pixels == pytest.approx(torch.tensor([[90.0, 165, 40], [0, 255, 40]]), abs=2)
    female = "female"
    smiles, hat = ["not smiling", "smiling"], ["no hat", "hat"]
    plain = "no eyeglasses"
    assert classes(dataset, dataset.train.labels[0]) == [
        *("black", None, "no beard", "bangs", plain, smiles[1], hat[0], female)
    ]
    assert classes(dataset, dataset.train.labels[1]) == [
        *("brown", None, "beard", "receding hairline", "eyeglasses", smiles[0], hat[0], "male")
    ]
    assert classes(dataset, dataset.train.labels[2]) == [
        *(None, None, "no beard", None, plain, smiles[0], hat[0], female)
    ]
    assert classes(dataset, dataset.test.labels[0]) == [
        *("gray", None, "no beard", "neither", plain, smiles[0], hat[1], "male")
    ]
    assert classes(dataset, dataset.test.labels[1])[0] is None


def test_the_factors_are_the_authors() -> None:
    from partedvae.training.data.celeba import INFO

    assert [len(factor.classes) for factor in INFO.factors] == [4, 3, 2, 3, 2, 2, 2, 2]
    assert all(factor.prior is not None and sum(factor.prior) == pytest.approx(1) for factor in INFO.factors)
    assert INFO.factors[0].prior == pytest.approx((0.4242, 0.3333, 0.1818, 0.0606), abs=1e-4)


def test_skin_tones_come_from_the_users_csv(tmp_path: Path) -> None:
    folder = make_celeba(tmp_path)
    (folder / "skin_tone.csv").write_text("image_id,skin_tone\n000002.jpg,black\n000005.jpg,brown\n")
    dataset = load_celeba(tmp_path)
    assert dataset.train.labels[:, 1].tolist() == [-1, 2, -1]
    assert dataset.test.labels[:, 1].tolist() == [1, -1]
    assert set(dataset.source) == {"list_attr_celeba.txt", "list_eval_partition.txt", "skin_tone.csv"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,tone\n", "its first line must be image_id,skin_tone, not 'image,tone'"),
        (
            "image_id,skin_tone\n000001.jpg,green\n",
            "line 2: .* white, brown, black, not '000001.jpg,green'",
        ),
        ("image_id,skin_tone\n999999.jpg,white\n", "line 2: expected an image of list_attr_celeba.txt"),
        ("image_id,skin_tone\n\n000001.jpg,white\n", "line 2: expected an image .*, not ''"),
        ('image_id,skin_tone\n000001.jpg,"white\n000002.jpg,green\n', "line 3: expected .*, not '000002.jpg,green'"),
        (
            "image_id,skin_tone\n000001.jpg,white\n000002.jpg,wei\xdf\n",
            "skin_tone.csv, line 3: the byte 0xdf is not UTF-8; save it as UTF-8",
        ),
    ],
)
def test_the_error_for_an_invalid_skin_tone_has_its_line(tmp_path: Path, content: str, message: str) -> None:
    (make_celeba(tmp_path) / "skin_tone.csv").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        load_celeba(tmp_path)


def test_blank_lines_at_the_end_do_not_count(tmp_path: Path) -> None:
    folder = make_celeba(tmp_path)
    (folder / "skin_tone.csv").write_text("image_id,skin_tone\n000002.jpg,black\n")
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt", "skin_tone.csv"):
        (folder / name).write_text((folder / name).read_text() + "\n \n")
    dataset = load_celeba(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (3, 2)
    assert dataset.train.labels[:, 1].tolist() == [-1, 2, -1]


def test_the_error_names_missing_files_and_where_to_download_them(tmp_path: Path) -> None:
    assert not celeba_is_available(tmp_path)
    with pytest.raises(DataError, match=r"img_align_celeba.zip .*, list_attr_celeba.txt, list_eval.* mmlab"):
        load_celeba(tmp_path)
    (make_celeba(tmp_path) / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match=r"incomplete: list_eval_partition.txt missing in "):
        load_celeba(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", "6\n", "7\n", "has 6 images, but its first line states 7"),
        ("list_attr_celeba.txt", "Gray_Hair", "Grey_Hair", "has no attribute Gray_Hair in its second line"),
        (
            "list_attr_celeba.txt",
            "000002.jpg -1",
            "000002.jpg",
            "line 4: expected a file name and 40 values",
        ),
        (
            "list_attr_celeba.txt",
            "000002.jpg -1",
            "\n000002.jpg -1",
            "line 4: expected a file name and 40 .*; download",
        ),
        (
            "list_attr_celeba.txt",
            "000003.jpg",
            "00000\xb3.jpg",
            "list_attr_celeba.txt, line 5: the byte 0xb3 is not ASCII; download it again",
        ),
        (
            "list_eval_partition.txt",
            "000001.jpg",
            "00000\xb9.jpg",
            "list_eval_partition.txt, line 1: the byte 0xb9 is not ASCII; download it again",
        ),
        (
            "list_eval_partition.txt",
            "000004.jpg 0\n000005.jpg 2\n",
            "",
            "no line for 2 of the 6 images of list_attr_celeba.txt, the first of them 000004.jpg; download it again",
        ),
        ("list_eval_partition.txt", "000003.jpg 1", "000003.jpg 3", "line 3: expected a file name and 0, 1 or 2"),
        (
            "list_eval_partition.txt",
            "000003.jpg",
            "000009.jpg",
            "line 3: '000009.jpg' has no attributes; download",
        ),
        (
            "list_eval_partition.txt",
            "000003.jpg",
            "000002.jpg",
            "line 3: 000002.jpg is listed twice; download it",
        ),
        ("list_attr_celeba.txt", "000003.jpg", "000002.jpg", "line 5: 000002.jpg is listed twice; download it"),
    ],
)
def test_the_error_for_a_file_in_another_format_has_its_line(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    path = make_celeba(tmp_path) / file
    path.write_text(path.read_text().replace(old, new, 1), encoding="latin-1")
    with pytest.raises(DataError, match=message):
        load_celeba(tmp_path)


def test_the_error_names_a_missing_or_damaged_image_on_access(tmp_path: Path) -> None:
    folder = make_celeba(tmp_path)
    dataset = load_celeba(tmp_path)
    (folder / "img_align_celeba" / "000002.jpg").unlink()
    (folder / "img_align_celeba" / "000004.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"000002.jpg is missing; unpack img_align_celeba.zip again"):
        dataset.train.images[torch.tensor([0, 1])]
    with pytest.raises(DataError, match=r"000004.jpg cannot be read as an image"):
        dataset.train.images[torch.tensor([2])]


@pytest.mark.parametrize("packed", [False, True])
def test_the_layout_of_kaggle_is_the_same_data_set(tmp_path: Path, packed: bool) -> None:
    """Lists as CSV, and images in a folder within a folder of the same name."""
    folder = make_celeba(tmp_path)
    expected = load_celeba(tmp_path)
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()[1:]
    rows = [",".join(["image_id", *lines[0].split()]), *(",".join(line.split()) for line in lines[1:])]
    (folder / "list_attr_celeba.csv").write_text("\n".join(rows) + "\n")
    parts = (folder / "list_eval_partition.txt").read_text().replace(" ", ",")
    (folder / "list_eval_partition.csv").write_text("image_id,partition\n" + parts)
    images = folder / "img_align_celeba"
    if packed:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for path in images.iterdir():
                archive.write(path, f"img_align_celeba/img_align_celeba/{path.name}")
        images.rename(folder / "unpacked")
    else:
        images.rename(folder / "inner")
        images.mkdir()
        (folder / "inner").rename(images / "img_align_celeba")
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        (folder / name).unlink()
    dataset = load_celeba(tmp_path)
    assert torch.equal(dataset.train.labels, expected.train.labels)
    assert torch.equal(dataset.test.labels, expected.test.labels)
    assert dataset.train.images[torch.tensor([2, 0])].float().mean(dim=(1, 2)) == pytest.approx(
        torch.tensor([[90.0, 165, 40], [0, 255, 40]]), abs=2
    )
    assert set(dataset.source) == {"list_attr_celeba.csv", "list_eval_partition.csv"}
