"""Registered data sets, `mnist:test` for example, as training stored them.

Rows are in the order of training's split. Training and serving share the names of the files
(`partedvae.common.dataset_files`); checksums are training's affair.
"""

from __future__ import annotations

from partedvae.common.dataset_files import SPLITS, find_images_of
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.arrays import ArraySource
from partedvae.serving.extract.sources.idx import open_idx
from partedvae.serving.extract.sources.numpy_files import open_bits, open_numpy
from partedvae.serving.extract.sources.options import InputOptions


def is_dataset(given: str) -> bool:
    """Return whether an input is the name of a registered data set, with or without a split."""
    return given.partition(":")[0] in SPLITS


def open_dataset(given: str, options: InputOptions) -> ArraySource:
    """Open a data set.

    Args:
        given: name:split; the split may be left out where there is one only.
        options: options of the input.

    Raises:
        InvalidInputError: there is no such split, or the data set is not available.
    """
    name, _, split = given.partition(":")
    splits = SPLITS[name]
    split = split or (splits[0] if len(splits) == 1 else "")
    if split not in splits:
        written = " or ".join(f"{name}:{each}" for each in splits)
        raise InvalidInputError(f"{given!r} is not a split of the data set {name}; write {written}")
    path = find_images_of(name, split, options.data_dir)
    if path is None:
        raise InvalidInputError(
            f"the data set {name} is not in {options.data_dir}: get it with 'partedvae data get {name}', or pass --data"
        )
    opener = open_bits if name == "dsprites" else open_numpy if path.suffix == ".npy" else open_idx
    return ArraySource(str(path), opener, options.read_timeout, name=f"{name}:{split}")
