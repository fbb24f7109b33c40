"""`folder:PATH`: the user's own images, some of them labelled in PATH/labels.csv.

All images in the folder and its subfolders are used (`partedvae.common.image_folder` says which files these are); those
without a row in labels.csv are unlabelled. Images that cannot be read are an error, which lists all of them. They are
grey if every file is stored as grey, and RGB otherwise. They are resized to 64x64, or to 32x32 if the median of their
longer sides is at most 48; if all are 218x178 (the size of CelebA), they keep their size. Those of another shape are
fitted (`partedvae.common.fit`). They are loaded into memory, up to 4 GB.

Test images are those whose `split` is test. Without that column, a fifth of the labelled images of each class of each
factor, at least one of two, is held out, chosen by file name (training/data/hold_out.py). Test images are not used for
training, even without their labels; each class keeps at least one labelled training image. Where fewer than two are
held out, as with one label of each class, or with none, a tenth of the images without a label is held out instead.

Training without labels (`LabelUse`) needs no labels.csv. Where it is missing, or has not two classes yet, the factor is
`CLUSTERS`.
"""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from partedvae.common.faults import listed
from partedvae.common.file_names import in_one_line
from partedvae.common.fit import DEFAULT_FIT, Fit
from partedvae.common.image_folder import FoundImages, find_images, image_endings
from partedvae.common.label_table import TABLE
from partedvae.common.missing_values import CLASSES
from partedvae.common.retry import Retries
from partedvae.common.suggest import nearest
from partedvae.training.data.dataset import (
    CLUSTERS,
    UNLABELLED,
    DataError,
    DatasetInfo,
    ImageDataset,
    LabelUse,
    Split,
    SplitFiles,
    count_labels,
)
from partedvae.training.data.hold_out import FEWEST, choose_test_images
from partedvae.training.data.image_files import ImageFiles, find_faults, read_header
from partedvae.training.data.labels_csv import LabelTable, TooFewLabelsError, read_table
from partedvae.training.data.names import FOLDER
from partedvae.training.data.shapes import stretched

LARGE = (218, 178)
SMALL_SIDE = 48
"""A median longer side up to this gives 32x32, a larger one 64x64."""
LIMIT = 4_000_000_000
"""Largest total size of the pixels, in bytes."""
CHUNK = 256
"""Images decoded at a time."""


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """The contents of a folder, except pixels."""

    folder: Path
    files: tuple[str, ...]
    """Paths relative to the folder, sorted."""
    table: LabelTable
    size: tuple[int, int, int]
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each file."""
    labels: Int[Tensor, "count factors"]
    is_test: tuple[bool, ...]
    """Whether each file is for testing."""
    notes: tuple[str, ...]
    """What is left out of the folder, and what may surprise in labels.csv."""
    read: Callable[[str], bytes]
    """Returns the content of a file."""

    @property
    def info(self) -> DatasetInfo:
        """The description."""
        return DatasetInfo(
            name=f"{FOLDER}{self.folder}",
            image_size=self.size,
            factors=self.table.factors,
            train_images=self.is_test.count(False),
            labelled_images=int((self.labels[~torch.tensor(self.is_test)] != UNLABELLED).any(dim=1).sum()),
        )


def describe_folder(folder: Path, labels: LabelUse = "required") -> DatasetInfo:
    """Return the description of a folder of images, from its labels.csv and the headers of its files.

    Args:
        folder: the folder.
        labels: whether labels are needed.

    Raises:
        DataError: the folder, labels.csv or a file is missing or wrong.
    """
    return _survey(folder, labels).info


def load_folder(folder: Path, fit: Fit = DEFAULT_FIT, labels: LabelUse = "required") -> ImageDataset:
    """Load a folder of images.

    Args:
        folder: the folder.
        fit: how images of another shape are fitted to the common size.
        labels: whether labels are needed.

    Raises:
        DataError: the folder, labels.csv or a file is missing or wrong, or the images exceed the memory limit.
    """
    contents = _survey(folder, labels)
    tests = sum(contents.is_test)
    if tests < FEWEST:
        raise DataError(
            f"{folder}: it has {tests} test images, and at least {FEWEST} are needed; label more images (a "
            f"fifth of each class is held out), or mark some with 'test' in a column 'split'{_identifiers(contents)}"
        )
    digests: dict[str, bytes] = {}

    def read(name: str) -> bytes:
        content = contents.read(name)
        digests[name] = hashlib.sha256(content).digest()
        return content

    pictures = ImageFiles(contents.files, read, contents.size, fit)
    try:
        pixels = torch.cat([pictures[indices] for indices in torch.arange(len(pictures)).split(CHUNK)])
    except DataError as error:
        raise _all_faults(contents.files, contents.read, error) from error
    # In the order of the files, which does not depend on the threads.
    digest = hashlib.sha256(b"".join(os.fsencode(name) + digests[name] for name in contents.files))
    test = torch.tensor(contents.is_test)
    tables = [folder / name for name in (TABLE, CLASSES)] if contents.table.labels else []
    names = tuple(name for name, is_test in zip(contents.files, contents.is_test, strict=True) if not is_test)
    files = SplitFiles(names=names, held_out=frozenset(contents.files) - set(names))
    return ImageDataset(
        info=contents.info,
        train=Split(images=pixels[~test], labels=contents.labels[~test], files=files),
        test=Split(images=pixels[test], labels=contents.labels[test]),
        source={
            **{path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tables if path.is_file()},
            f"{len(contents.files)} images": digest.hexdigest(),
        },
        notes=(
            *contents.notes,
            *_copies(contents, digests),
            *(stretched(contents.sizes, contents.size[:2]) if fit == "stretch" else []),
        ),
    )


def _copies(contents: _Contents, digests: Mapping[str, bytes]) -> Iterator[str]:
    """Yield a note if test images are copies of training images: accuracies of them say little of other images."""
    trained = {
        digests[name]: name for name, is_test in zip(contents.files, contents.is_test, strict=True) if not is_test
    }
    tests = [name for name, is_test in zip(contents.files, contents.is_test, strict=True) if is_test]
    copies = [name for name in tests if digests[name] in trained]
    if copies:
        first, other = in_one_line(copies[0]), in_one_line(trained[digests[copies[0]]])
        yield (
            f"{len(copies):,} of {len(tests):,} test images are copies of training images, such as {first} of {other}: "
            "accuracies are too high; remove one of each two, or give both the same value in a column 'split'"
        )


def _identifiers(contents: _Contents) -> str:
    """Return a remedy for columns with a class of its own for each image, none of which can be held out."""
    known = count_labels(contents.labels)
    names = [
        repr(factor.name)
        for factor, count in zip(contents.table.factors, known, strict=True)
        if count == len(factor.classes) > FEWEST
    ]
    if not names:
        return ""
    return f"; each image has a class of its own in {', '.join(names)}: remove such a column if it numbers the images"


def _survey(folder: Path, labels_used: LabelUse) -> _Contents:
    if not folder.is_dir():
        raise _no_folder(folder)
    found = find_images(folder)
    if not found.names and not os.path.lexists(folder / TABLE):
        left_out = f"; left out: {'; '.join(found.left_out.lines())}" if found.left_out.counts else ""
        raise DataError(f"{folder} contains no images ({', '.join(image_endings())}){left_out}")
    retry = Retries()
    names = _without_other_names(folder, found, retry)
    try:
        table = _labels_of(folder, names, labels_used)
    except DataError as error:
        raise _with_images(error, folder, names, retry) from error
    # Labelled files with another ending are kept, so that decoding them reports the error.
    files = tuple(sorted({*names, *table.labels}))

    def read(name: str) -> bytes:
        try:
            return retry((folder / name).read_bytes)
        except OSError as error:
            raise DataError(
                f"{in_one_line(str(folder / name))} cannot be read: {error.strerror}; repair it, or remove it"
            ) from error

    try:
        size, sizes = _image_size(folder, files, retry)
    except DataError as error:
        raise _all_faults(files, read, error) from error
    _check_memory(folder, len(files), size)
    blank = (UNLABELLED,) * len(table.factors)
    rows = [table.labels.get(file, blank) for file in files]
    tests = choose_test_images(dict(zip(files, rows, strict=True))) if table.tests is None else table.tests
    return _Contents(
        folder=folder,
        files=files,
        table=table,
        size=size,
        sizes=sizes,
        labels=torch.tensor(rows, dtype=torch.int64),
        is_test=tuple(file in tests for file in files),
        notes=(*(f"left out of {folder}: {line}" for line in found.left_out.lines()), *table.notes),
        read=read,
    )


def _no_folder(folder: Path) -> DataError:
    """Return an error that suggests the folder that was meant."""
    known = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()] if folder.parent.is_dir() else []
    near = nearest(folder.name, known)
    meant = (
        f"did you mean {FOLDER}{folder.with_name(near)}?" if near else "pass the folder of your images as folder:PATH"
    )
    return DataError(f"{folder} is not a folder; {meant}")


def _without_other_names(folder: Path, found: FoundImages, retry: Retries) -> list[str]:
    """Return one name of each image, the first, and leave out its others, by links: it would train and test a model."""
    names: list[str] = []
    seen: set[tuple[int, int]] = set()
    for name in found.names:
        try:
            facts = retry((folder / name).stat)
        except OSError:  # Reading it says why.
            names.append(name)
            continue
        identity = facts.st_dev, facts.st_ino
        if identity in seen:
            found.left_out.add("linked to an image that is read already", str(folder / name))
        else:
            seen.add(identity)
            names.append(name)
    return names


def _labels_of(folder: Path, names: Sequence[str], used: LabelUse) -> LabelTable:
    """Return the labels, or those of `CLUSTERS`."""
    if used != "ignored":
        try:
            return read_table(folder, names)
        except TooFewLabelsError:
            if used == "required":
                raise
    note = f"the classes are {len(CLUSTERS.classes)} groups of similar images, as {TABLE} is not used"
    return LabelTable(factors=(CLUSTERS,), labels={}, tests=None, notes=(note,))


def _all_faults(files: Sequence[str], read: Callable[[str], bytes], first: DataError) -> DataError:
    """Return an error that lists all files that cannot be used, after the first was met."""
    return DataError(listed(find_faults(files, read) or [str(first)], "images cannot be used"))


def _with_images(error: DataError, folder: Path, names: Sequence[str], retry: Retries) -> DataError:
    """Return an error of labels.csv that also lists the images whose headers cannot be read."""
    # Not `_all_faults`: after a typing error in a table nobody waits until all images are decoded.
    faults = []
    for name in names:
        try:
            _header(folder, name, retry)
        except DataError as fault:
            faults.append(str(fault))
    return DataError(f"{error}\n{listed(faults, 'images cannot be used')}") if faults else error


def _header(folder: Path, name: str, retry: Retries) -> tuple[int, int, bool]:
    """Return height and width of an image, and whether it is grey, from its header."""

    def read() -> tuple[int, int, bool]:
        with (folder / name).open("rb") as file:
            return read_header(str(folder / name), file)

    try:
        return retry(read)
    except OSError as error:
        raise DataError(
            f"{in_one_line(str(folder / name))} cannot be read: {error.strerror}; repair it, or remove it"
        ) from error


def _image_size(
    folder: Path, files: Sequence[str], retry: Retries
) -> tuple[tuple[int, int, int], tuple[tuple[int, int], ...]]:
    """Return the common height, width and channels of the images, and height and width of each, from their headers."""
    sizes, greys = [], []
    for name in files:
        height, width, grey = _header(folder, name, retry)
        sizes.append((height, width))
        greys.append(grey)
    channels = 1 if all(greys) else 3
    if set(sizes) == {LARGE}:
        return (*LARGE, channels), tuple(sizes)
    side = 32 if statistics.median(max(size) for size in sizes) <= SMALL_SIDE else 64
    return (side, side, channels), tuple(sizes)


def _check_memory(folder: Path, count: int, size: tuple[int, int, int]) -> None:
    needed = count * size[0] * size[1] * size[2]
    if needed > LIMIT:
        raise DataError(
            f"{folder}: {count} images of {size[0]}x{size[1]} need {needed / 1e9:.1f} GB of memory, more than the "
            f"{LIMIT / 1e9:.0f} GB limit; use fewer images"
        )
