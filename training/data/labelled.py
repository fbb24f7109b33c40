"""Choice of the training images whose labels are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from partedvae.common.file_names import spellings
from partedvae.common.suggest import did_you_mean
from partedvae.common.text_files import TextError, read_names
from partedvae.training.data.dataset import UNLABELLED, DataError, Split, Truth, first_labelled, with_labels
from partedvae.training.data.names import FILE_PREFIX

WAYS = ("first", "random", "stratified", "balanced")
"""Names of the selections, besides `file:PATH`."""
MANY_VALUES = 10
"""A true factor with more values than this is stratified by halves, as orientation, x and y are in the paper."""


def check_way(how: str) -> None:
    """Check the name of a selection.

    Raises:
        ValueError: the name is unknown.
    """
    if how not in WAYS and not how.startswith(FILE_PREFIX):
        raise ValueError(
            f"no selection of labelled images is called {how!r}{did_you_mean(how, WAYS)} "
            f"(there are: {', '.join(WAYS)}, {FILE_PREFIX}PATH)"
        )


def choose_labelled(train: Split, truth: Truth | None, count: int, how: str, seed: int) -> Int[Tensor, " chosen"]:
    """Return the indices of the training images whose labels are used. An image with any label counts as labelled.

    Args:
        train: the training images.
        truth: the true factors of the training images, if known; further rows are ignored.
        count: number of images.
        how: `first`, the first images;
            `random`, any images that have a label;
            `stratified`, random, with every combination of the true factors (of their halves for factors with many
            values), or of the labels if the true factors are unknown, in proportion to within one image;
            `balanced`, random, with equally many images of each class of the first factor;
            `file:PATH`, the images listed in a text file, one per line: indices of training images, starting at 0, or
            file names, if the images have names (a name that is a number is written ./NUMBER).
        seed: seed of the random selections.

    Raises:
        ValueError: the name of the selection is unknown.
        DataError: there are too few labelled images, or the file is missing or invalid.
    """
    check_way(how)
    if how.startswith(FILE_PREFIX):
        return _from_file(train, Path(how.removeprefix(FILE_PREFIX)), count)
    if how == "first":
        return first_labelled(train, count)
    generator = torch.Generator().manual_seed(seed)
    if how == "random":
        labelled = with_labels(train, count)
        return labelled[torch.randperm(len(labelled), generator=generator)[:count]].sort().values
    return _balanced(train, count, generator) if how == "balanced" else _stratified(train, truth, count, generator)


def _stratified(train: Split, truth: Truth | None, count: int, generator: torch.Generator) -> Int[Tensor, " chosen"]:
    """Return a systematic sample: images sorted by stratum, shuffled within strata, at equal distances."""
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
        raise DataError("the first factor has no labels to balance; use the selection 'first'")
    sizes = labels[labels != UNLABELLED].bincount().tolist()
    # If the labels are not divisible by the classes, the first classes get one more.
    most = classes * min(sizes) + sizes.index(min(sizes))
    chosen = []
    for c in range(classes):
        members = torch.nonzero(labels == c).squeeze(1)
        share = count // classes + (c < count % classes)
        if share > len(members):
            raise DataError(
                f"--labels {count} balanced over {classes} classes requires {share} images of class {c} of the first "
                f"factor, which has {len(members)}; use at most {most} labels"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:share]])
    return torch.cat(chosen).sort().values


def _from_file(train: Split, path: Path, count: int) -> Int[Tensor, " chosen"]:
    try:
        lines = read_names(path)
    except (OSError, TextError) as error:
        raise DataError(
            f"the list of labelled images {path} cannot be read: {error}; pass a text file with one image per line"
        ) from error
    find = _finder(train)
    indices: dict[int, int] = {}
    for number, line in lines:
        text = line.strip()
        try:
            index = find(line)
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if index in indices:
            raise DataError(f"{path}, line {number}: {text} is in line {indices[index]} already; keep one of them")
        if bool((train.labels[index] == UNLABELLED).all()):
            raise DataError(f"{path}, line {number}: training image {text} has no label; remove it from the list")
        indices[index] = number
    if len(indices) != count:
        raise DataError(f"{path} lists {len(indices)} images, but --labels is {count}; use --labels {len(indices)}")
    return torch.tensor(list(indices), dtype=torch.int64)


def _finder(train: Split) -> Callable[[str], int]:
    """Return a function from a line of a list to the index of the training image; its errors lack the line number."""
    names = train.files.names if train.files else ()
    held_out = train.files.held_out if train.files else frozenset[str]()
    places = {name: index for index, name in enumerate(names)}

    def find(line: str) -> int:
        text = line.strip()
        # Digits are always an index, whatever the names of the files, so that a list is unambiguous.
        if text.isdecimal() and int(text) < len(train):
            return int(text)
        if text.isdecimal() or not names:
            raise DataError(f"{text!r} is not the index of a training image (0 to {len(train) - 1})")
        for name in spellings(line):
            if name in places:
                return places[name]
            if name in held_out:
                raise DataError(f"{text!r} is held out for testing; remove it from the list")
        raise DataError(
            f"{text!r} is not a training image; write an index (0 to {len(train) - 1}) or a file's path relative "
            "to the folder, as in labels.csv"
        )

    return find
