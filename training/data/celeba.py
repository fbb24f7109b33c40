"""CelebA: 202,599 faces, 218x178, RGB, eight factors, from the user's own copy (paper appendix B).

`<data>/celeba` contains the aligned and cropped images and the lists, as downloaded:

    img_align_celeba/ or img_align_celeba.zip   000001.jpg to 202599.jpg
    list_attr_celeba.txt                        40 attributes of each image, 1 or -1
    list_eval_partition.txt                     0 training, 1 validation, 2 test
    skin_tone.csv                               optional: image_id,skin_tone with white, brown or black

or as Kaggle has them: list_attr_celeba.csv and list_eval_partition.csv, and the images in a folder of the same name
within the folder or the archive.

Memory: labels only (13 MB). Images are decoded in threads on access, as all of them would need 23 GB.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from partedvae.common.retry import Retries
from partedvae.training.data.dataset import UNLABELLED, DataError, DatasetInfo, FactorInfo, ImageDataset, Split
from partedvae.training.data.image_files import ImageFiles

SIZE = (218, 178, 3)
IMAGES = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
SKIN_TONE = "skin_tone.csv"
HOME = "mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
AGAIN = f"download it again from {HOME}"
TRAIN, TEST = 0, 2
"""Parts of the official partition; 1, validation, is not used."""

# p(c_k) as given by the authors; that of the hair colour sums to 0.99 there and is normalised here.
HAIR_COLOR_SHARES = (0.42, 0.33, 0.18, 0.06)
FACTORS = (
    FactorInfo(
        name="hair_color",
        classes=("black", "brown", "blond", "gray"),
        prior=tuple(share / sum(HAIR_COLOR_SHARES) for share in HAIR_COLOR_SHARES),
    ),
    FactorInfo(name="skin_tone", classes=("white", "brown", "black"), prior=(0.9, 0.07, 0.03)),
    FactorInfo(name="beard", classes=("no beard", "beard"), prior=(0.85, 0.15)),
    FactorInfo(name="forehead", classes=("neither", "bangs", "receding hairline"), prior=(0.74, 0.15, 0.11)),
    FactorInfo(name="eyeglasses", classes=("no eyeglasses", "eyeglasses"), prior=(0.93, 0.07)),
    FactorInfo(name="smiling", classes=("not smiling", "smiling"), prior=(0.47, 0.53)),
    FactorInfo(name="hat", classes=("no hat", "hat"), prior=(0.95, 0.05)),
    FactorInfo(name="gender", classes=("female", "male"), prior=(0.57, 0.43)),
)
"""The factors of the paper, in the authors' order."""

INFO = DatasetInfo(name="celeba", image_size=SIZE, factors=FACTORS, train_images=162_770)

HAIR_COLORS = ("Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair")
NEEDED = (*HAIR_COLORS, "No_Beard", "Bangs", "Receding_Hairline", "Eyeglasses", "Smiling", "Wearing_Hat", "Male")


def load_celeba(data_dir: Path) -> ImageDataset:
    """Load CelebA from `<data_dir>/celeba`, in the official split.

    A label is -1 where the attributes do not determine it: with several hair colours or none, with both bangs and a
    receding hairline, and for every skin tone that is not in skin_tone.csv (the authors did not publish theirs).

    Raises:
        DataError: a file is missing or not in its official format; the message names it, and where to download it.
    """
    folder = data_dir / "celeba"
    _require_files(folder)
    attributes, partition = _list_file(folder, ATTRIBUTES), _list_file(folder, PARTITION)
    labels = _read_labels(attributes)
    tones = _read_skin_tones(folder / SKIN_TONE, labels)
    for name, tone in tones.items():
        labels[name][1] = tone
    parts = _read_partition(partition, labels)
    read = _reader(folder, next(iter(labels)))
    splits = {}
    for part in (TRAIN, TEST):
        names = [name for name, its_part in parts.items() if its_part == part]
        if not names:
            raise DataError(f"{partition} has no image of part {part}; {AGAIN}")
        splits[part] = Split(
            images=ImageFiles(names, read, SIZE), labels=torch.tensor([labels[name] for name in names])
        )
    listed = [path for path in (attributes, partition, folder / SKIN_TONE) if path.is_file()]
    return ImageDataset(
        info=dataclasses.replace(INFO, train_images=len(splits[TRAIN])),
        train=splits[TRAIN],
        test=splits[TEST],
        source={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in listed},
    )


def celeba_is_available(data_dir: Path) -> bool:
    """Return whether the files exist; their contents are not read."""
    return not _missing(data_dir / "celeba")


def _missing(folder: Path) -> list[str]:
    missing = [name for name in (ATTRIBUTES, PARTITION) if not _list_file(folder, name).is_file()]
    if not (folder / IMAGES).is_dir() and not (folder / f"{IMAGES}.zip").is_file():
        missing.insert(0, f"{IMAGES}.zip (or the folder {IMAGES})")
    return missing


def _list_file(folder: Path, name: str) -> Path:
    """Return the path of a list: the official .txt, or Kaggle's .csv where only that exists."""
    path, table = folder / name, (folder / name).with_suffix(".csv")
    return table if table.is_file() and not path.is_file() else path


def _require_files(folder: Path) -> None:
    missing = _missing(folder)
    if missing:
        raise DataError(
            f"CelebA is incomplete: {', '.join(missing)} missing in {folder}; download the aligned and cropped "
            f"images, the attributes and the partition from {HOME} and put them there (its licence forbids "
            "redistribution, so it cannot be downloaded automatically); the .csv lists of Kaggle are read too"
        )


def _read_lines(path: Path, encoding: str, remedy: str) -> list[str]:
    """Return the lines of a text file, without blank lines at its end.

    Args:
        path: the file.
        encoding: name of its encoding.
        remedy: advice for the error message.

    Raises:
        DataError: a byte is invalid in that encoding; the message has its line.
    """
    try:
        return path.read_bytes().decode(encoding).rstrip().splitlines()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte, name = error.object[error.start], encoding.removesuffix("-sig").upper()
        raise DataError(f"{path}, line {line}: the byte 0x{byte:02x} is not {name}; {remedy}") from error


def _read_labels(path: Path) -> dict[str, list[int]]:
    """Read list_attr_celeba.txt (a count, 40 names, then one row per image) as labels of the eight factors."""
    lines = _read_lines(path, "ascii", AGAIN)
    if path.suffix == ".csv":  # the same table, without the count
        lines = [str(len(lines) - 1), lines[0].removeprefix("image_id,"), *lines[1:]] if lines else []
        lines = [line.replace(",", " ") for line in lines]
    columns = {name: column for column, name in enumerate(lines[1].split())} if len(lines) > 2 else {}
    absent = [name for name in NEEDED if name not in columns]
    if absent:
        raise DataError(
            f"{path} has no attribute {absent[0]} in its {'first' if path.suffix == '.csv' else 'second'} line; {AGAIN}"
        )
    labels = {}
    for number, line in enumerate(lines[2:], start=2 if path.suffix == ".csv" else 3):
        name, *values = line.split() or [""]
        if len(values) != len(columns) or not set(values) <= {"1", "-1"}:
            raise DataError(
                f"{path}, line {number}: expected a file name and {len(columns)} values of 1 or -1; {AGAIN}"
            )
        if name in labels:
            raise DataError(f"{path}, line {number}: {name} is listed twice; {AGAIN}")
        labels[name] = _labels_of({attribute: values[columns[attribute]] == "1" for attribute in NEEDED})
    if lines[0].strip() != str(len(labels)):
        raise DataError(f"{path} has {len(labels)} images, but its first line states {lines[0].strip()}; {AGAIN}")
    return labels


def _labels_of(has: Mapping[str, bool]) -> list[int]:
    """Return the labels of the factors, in the order of FACTORS; skin tone is not one of the attributes."""
    colors = [index for index, name in enumerate(HAIR_COLORS) if has[name]]
    forehead = UNLABELLED if has["Bangs"] and has["Receding_Hairline"] else has["Bangs"] + 2 * has["Receding_Hairline"]
    return [
        colors[0] if len(colors) == 1 else UNLABELLED,
        UNLABELLED,
        int(not has["No_Beard"]),
        forehead,
        int(has["Eyeglasses"]),
        int(has["Smiling"]),
        int(has["Wearing_Hat"]),
        int(has["Male"]),
    ]


def _read_partition(path: Path, labels: Mapping[str, list[int]]) -> dict[str, int]:
    """Read list_eval_partition.txt: one file name and its part per row."""
    parts = {}
    lines = _read_lines(path, "ascii", AGAIN)
    for number, line in enumerate(lines, start=1):
        fields = line.replace(",", " ").split() if path.suffix == ".csv" else line.split()
        if path.suffix == ".csv" and number == 1 and fields == ["image_id", "partition"]:
            continue
        if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
            raise DataError(f"{path}, line {number}: expected a file name and 0, 1 or 2, not {line!r}; {AGAIN}")
        if fields[0] not in labels:
            raise DataError(f"{path}, line {number}: {fields[0]!r} has no attributes; {AGAIN}")
        if fields[0] in parts:
            raise DataError(f"{path}, line {number}: {fields[0]} is listed twice; {AGAIN}")
        parts[fields[0]] = int(fields[1])
    absent = [name for name in labels if name not in parts]
    if absent:
        raise DataError(
            f"{path} has no line for {len(absent)} of the {len(labels)} images of {ATTRIBUTES}, the first of them "
            f"{absent[0]}; {AGAIN}"
        )
    return parts


def _read_skin_tones(path: Path, labels: Mapping[str, list[int]]) -> dict[str, int]:
    """Read the optional skin_tone.csv; images without a row have no label."""
    if not path.is_file():
        return {}
    classes = FACTORS[1].classes
    tones: dict[str, int] = {}
    # Each line is parsed separately, so that an unpaired quotation mark does not include the lines after it.
    rows = [next(csv.reader([line]), []) for line in _read_lines(path, "utf-8-sig", "save it as UTF-8")]
    header = rows[0] if rows else []
    if header != ["image_id", "skin_tone"]:
        raise DataError(f"{path}: its first line must be image_id,skin_tone, not {','.join(header)!r}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or row[0] not in labels or row[1] not in classes:
            raise DataError(
                f"{path}, line {number}: expected an image of {ATTRIBUTES} and one of {', '.join(classes)}, "
                f"not {','.join(row)!r}"
            )
        if row[0] in tones:
            raise DataError(f"{path}, line {number}: {row[0]} is listed twice; keep one of its rows")
        tones[row[0]] = classes.index(row[1])
    return tones


def _reader(folder: Path, sample: str) -> Callable[[str], bytes]:
    """Return a function that reads the bytes of an image from the folder, if it exists, or else from the archive."""
    images = folder / IMAGES
    if images.is_dir():
        # Unpacking the archive into a folder of its own name creates a nested folder.
        inner = images / IMAGES
        images = inner if inner.is_dir() else images
        if not (images / sample).is_file():
            raise DataError(f"{images} has no {sample}, which is listed in {ATTRIBUTES}; unpack {IMAGES}.zip again")
        retry = Retries()
        return lambda name: retry(lambda: _read_from_folder(images, name))
    packed = images.with_suffix(".zip")
    try:
        archive = zipfile.ZipFile(packed)
    except zipfile.BadZipFile as error:
        raise DataError(f"{packed} is damaged: {error}; {AGAIN}") from error
    # Kaggle's archive has a nested folder too.
    nested = f"{IMAGES}/{IMAGES}/"
    prefix = nested if f"{nested}{sample}" in archive.NameToInfo else f"{IMAGES}/"
    retry = Retries()
    return lambda name: retry(lambda: _read_from_archive(archive, f"{prefix}{name}"))


def _read_from_folder(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{folder / name} is missing; unpack {IMAGES}.zip again") from None


def _read_from_archive(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{archive.filename}: {name} cannot be read: {error}; {AGAIN}") from error
