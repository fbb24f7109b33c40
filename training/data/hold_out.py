"""Which labelled images of a folder are set aside to test on, where its labels.csv does not say.

Every image has its place in an order that its own name alone decides, so that an image that is added or taken away
moves few of the others between training and testing, and an unlabelled one moves none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from partedvae.training.data.dataset import UNLABELLED

HELD_OUT = 0.2


def hold_out(labels: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """Choose the test images among the labelled: a fifth of every class of every factor, at least one of two.

    An image chosen for one factor counts for the others too. The last training image of a class is never taken.

    Args:
        labels: by file, one a factor.
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


def _place(file: str) -> bytes:
    """Return what the files are ordered by: a hash of the name, as names themselves often follow the classes."""
    return hashlib.sha256(file.encode()).digest()


def _known(labels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return factor and class of every label that an image has."""
    return [(factor, label) for factor, label in enumerate(labels) if label != UNLABELLED]
