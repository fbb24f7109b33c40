"""Choosing the training images whose labels are used."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from training.data.dataset import UNLABELLED, DataError, Split, Truth, first_labelled, with_labels
from training.names import nearest

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
            f"no way to choose labelled images is called {how!r}{nearest(how, WAYS)} "
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
            `file:PATH`, the indices in a text file, one a line, counted from 0.
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
    chosen = []
    for c in range(classes):
        members = torch.nonzero(labels == c).squeeze(1)
        share = count // classes + (c < count % classes)
        if share > len(members):
            raise DataError(
                f"--labels {count} balanced over {classes} classes needs {share} images of class {c} of the first "
                f"factor, and there are {len(members)}; use at most {classes * len(members)} labels"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:share]])
    return torch.cat(chosen).sort().values


def _from_file(train: Split, path: Path, count: int) -> Int[Tensor, " chosen"]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list of labelled images {path} cannot be read: {error}") from error
    indices: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        if not text.isdecimal() or int(text) >= len(train):
            raise DataError(f"{path}, line {number}: {text!r} is no index of a training image (0 to {len(train) - 1})")
        index = int(text)
        if index in indices:
            raise DataError(f"{path}, line {number}: {index} is in line {indices[index]} already")
        if bool((train.labels[index] == UNLABELLED).all()):
            raise DataError(f"{path}, line {number}: training image {index} has no label")
        indices[index] = number
    if len(indices) != count:
        raise DataError(f"{path} lists {len(indices)} images and --labels says {count}; use --labels {len(indices)}")
    return torch.tensor(list(indices), dtype=torch.int64)
