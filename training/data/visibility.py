"""Which factors can be seen in an image of certain classes, as labels say: the colour of hair below a hat has none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from partedvae.training.data.dataset import UNLABELLED

FEWEST_LABELS = 20
"""A factor counts as invisible with a class of another factor if none of so many images has a label of it."""

VisibilityTables = Sequence[Sequence[Bool[Tensor, "_"]]]
"""For each factor, and for each factor again: the classes of the second with which the first can be seen."""


def visible_classes(labels: Int[Tensor, "images factors"], k: int, j: int, classes: int) -> Bool[Tensor, " classes"]:
    """Return the classes of factor j with which factor k can be seen; all, where labels do not tell.

    Args:
        labels: class indices, -1 where unknown.
        k: the factor to be seen.
        j: the other factor.
        classes: number of classes of factor j.
    """
    labelled = labels[:, k] != UNLABELLED
    visible = torch.tensor(
        [
            bool((labelled & (labels[:, j] == c)).any()) or int((labels[:, j] == c).sum()) < FEWEST_LABELS
            for c in range(classes)
        ]
    )
    return visible if bool(visible.any()) else torch.ones(classes, dtype=torch.bool)


def visibility_tables(labels: Int[Tensor, "images factors"], sizes: Sequence[int]) -> VisibilityTables:
    """Return the visible classes of all pairs of factors; a factor without labels is visible with no class.

    Args:
        labels: class indices, -1 where unknown.
        sizes: number of classes of each factor.
    """
    return [
        [
            visible_classes(labels, k, j, size)
            if bool((labels[:, k] != UNLABELLED).any())
            else torch.zeros(size, dtype=torch.bool)
            for j, size in enumerate(sizes)
        ]
        for k in range(len(sizes))
    ]


def visible_factors(
    classes: Sequence[Int[Tensor, " images"]], tables: VisibilityTables
) -> list[Bool[Tensor, " images"]]:
    """Return whether each factor can be seen in images of these classes.

    Args:
        classes: class of each factor.
        tables: the visible classes, on the same device.
    """
    return [torch.stack([visible[own] for visible, own in zip(row, classes, strict=True)]).all(dim=0) for row in tables]
