"""Choosing the training images whose labels are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from partedvae.common.suggest import did_you_mean
from partedvae.training.data.dataset import UNLABELLED, DataError, Split, Truth, first_labelled, with_labels

FILE_PREFIX = "file:"
WAYS = ("first", "stratified", "balanced")
"""Beside `file:PATH`."""
MANY_VALUES = 10
"""A true factor with more values than these is stratified by its halves, as the paper's orientation, x and y are."""


def check_way(how: str) -> None:
    """Check the name of a way to choose.

    Raises:
        ValueError: there is no such way.
    """
    if how not in WAYS and not how.startswith(FILE_PREFIX):
        raise ValueError(
            f"no way to choose labelled images is called {how!r}{did_you_mean(how, WAYS)} "
            f"(there are: {', '.join(WAYS)}, {FILE_PREFIX}PATH)"
        )


def choose_labelled(train: Split, truth: Truth | None, count: int, how: str, seed: int) -> Int[Tensor, " chosen"]:
    """Return the indices of the training images whose labels are used. An image with any label counts as labelled.

    Args:
        train: the training images.
        truth: the true factors of the training images, where they are known; it may go on beyond them.
        count: how many.
        how: `first`, the first so many;
            `stratified`, at random, but so that every combination of the true factors (halves of those with many
            values), or of the labels where there is no truth, has its share to within one image;
            `balanced`, at random, but as many of each class of the first factor;
            `file:PATH`, those in a text file, one a line: indices of training images, counted from 0, or file names
            where the images have them (one that is a number is written ./NUMBER).
        seed: of the random choices.

    Raises:
        ValueError: there is no such way.
        DataError: there are not so many, or the file is missing or wrong.
    """
    check_way(how)
    if how.startswith(FILE_PREFIX):
        return _from_file(train, Path(how.removeprefix(FILE_PREFIX)), count)
    if how == "first":
        return first_labelled(train, count)
    generator = torch.Generator().manual_seed(seed)
    return _balanced(train, count, generator) if how == "balanced" else _stratified(train, truth, count, generator)


def _stratified(train: Split, truth: Truth | None, count: int, generator: torch.Generator) -> Int[Tensor, " chosen"]:
    """Sort the images by stratum, shuffled within, and take them at equal distances: a systematic sample."""
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    labelled = with_labels(train, count)
    keys = train.labels if truth is None else _halved(truth.values[: len(train)])
    order = labelled[torch.randperm(len(labelled), generator=generator)]
    for column in range(keys.shape[1] - 1, -1, -1):
        order = order[torch.argsort(keys[order, column], stable=True)]
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    positions = (torch.arange(count, dtype=torch.float64) + offset) * (len(order) / count)
    return order[positions.long()].sort().values


def _halved(values: Int[Tensor, "count true_factors"]) -> Int[Tensor, "count true_factors"]:
    sizes = values.max(dim=0).values + 1
    return torch.where(sizes > MANY_VALUES, (2 * values) // sizes, values)


def _balanced(train: Split, count: int, generator: torch.Generator) -> Int[Tensor, " chosen"]:
    labels = train.labels[:, 0]
    classes = int(labels.max()) + 1
    if classes == 0:
        raise DataError("the first factor has no labels, so they cannot be balanced; choose them with 'first'")
    sizes = labels[labels != UNLABELLED].bincount().tolist()
    # Where the classes do not divide the labels, the first ones have one more.
    most = classes * min(sizes) + sizes.index(min(sizes))
    chosen = []
    for c in range(classes):
        members = torch.nonzero(labels == c).squeeze(1)
        share = count // classes + (c < count % classes)
        if share > len(members):
            raise DataError(
                f"--labels {count} balanced over {classes} classes needs {share} images of class {c} of the first "
                f"factor, and there are {len(members)}; use at most {most} labels"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:share]])
    return torch.cat(chosen).sort().values


def _from_file(train: Split, path: Path, count: int) -> Int[Tensor, " chosen"]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list of labelled images {path} cannot be read: {error}") from error
    find = _finder(train)
    indices: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        try:
            index = find(text)
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if index in indices:
            raise DataError(f"{path}, line {number}: {text} is in line {indices[index]} already; keep one of them")
        if bool((train.labels[index] == UNLABELLED).all()):
            raise DataError(f"{path}, line {number}: training image {text} has no label; take it out of the list")
        indices[index] = number
    if len(indices) != count:
        raise DataError(f"{path} lists {len(indices)} images and --labels says {count}; use --labels {len(indices)}")
    return torch.tensor(list(indices), dtype=torch.int64)


def _finder(train: Split) -> Callable[[str], int]:
    """Return what gives the training image that a line of a list means; its errors lack the line."""
    names = train.files.names if train.files else ()
    held_out = train.files.held_out if train.files else frozenset[str]()
    places = {name: index for index, name in enumerate(names)}

    def find(text: str) -> int:
        # Digits alone are an index whatever the files are called, so that a list means one thing.
        if text.isdecimal() and int(text) < len(train):
            return int(text)
        name = Path(text).as_posix()
        if text.isdecimal() or not names:
            raise DataError(f"{text!r} is no index of a training image (0 to {len(train) - 1})")
        if name in held_out:
            raise DataError(f"{text!r} is held out for testing; take it out of the list")
        if name not in places:
            raise DataError(
                f"{text!r} is no training image; write an index (0 to {len(train) - 1}) or a file's path relative to "
                "the folder, as in labels.csv"
            )
        return places[name]

    return find
