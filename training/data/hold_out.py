"""Choice of the test images of a folder whose labels.csv has no column `split`.

Images are ordered by a hash of their names, so that adding or removing a labelled image moves few of the others between
training and testing, and an unlabelled image moves none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping

from partedvae.training.data.dataset import UNLABELLED

HELD_OUT = 0.2
"""Fraction of the labelled images of each class that is used for testing."""
HELD_OUT_UNLABELLED = 0.1
"""Fraction of the images without a label that is used for testing where too few labelled ones are."""
FEWEST = 2
"""Smallest number of test images."""


def choose_test_images(labels: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """Return the test images of a folder: some of those with a label, and where these are too few, some without.

    Args:
        labels: labels of every file, one per factor.
    """
    chosen = hold_out(labels)
    if len(chosen) < FEWEST:
        chosen |= hold_out_unlabelled([file for file, known in labels.items() if not _known(known)])
    return chosen


def hold_out(labels: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """Return the test images: a fifth of the labelled images of each class of each factor, at least one of two.

    An image chosen for one factor counts for the others too. The last training image of a class is never chosen.

    Args:
        labels: labels by file, one per factor.
    """
    members: dict[tuple[int, int], list[str]] = {}
    for file in sorted(labels, key=_place):
        for known in _known(labels[file]):
            members.setdefault(known, []).append(file)
    left = {known: len(files) for known, files in members.items()}
    chosen: set[str] = set()
    for known, files in sorted(members.items()):
        keep = len(files) - max(1, round(HELD_OUT * len(files)))
        for file in files:
            if left[known] <= keep:
                break
            if file not in chosen and all(left[other] > 1 for other in _known(labels[file])):
                chosen.add(file)
                for other in _known(labels[file]):
                    left[other] -= 1
    return frozenset(chosen)


def hold_out_unlabelled(files: Collection[str]) -> frozenset[str]:
    """Return the test images of a folder that has too few labels to hold any out: a tenth of those without a label.

    They measure the reconstruction, and how the exported model compares with this one. At least `FEWEST` of them are
    chosen, and none of less than twice as many.

    Args:
        files: the images without a label.
    """
    if len(files) < 2 * FEWEST:
        return frozenset()
    return frozenset(sorted(files, key=_place)[: max(FEWEST, round(HELD_OUT_UNLABELLED * len(files)))])


def _place(file: str) -> bytes:
    """Return the sort key of a file: a hash of its name, as the names themselves often follow the classes."""
    return hashlib.sha256(os.fsencode(file)).digest()


def _known(labels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return factor and class of every known label of an image."""
    return [(factor, label) for factor, label in enumerate(labels) if label != UNLABELLED]
