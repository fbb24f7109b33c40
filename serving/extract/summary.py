"""What an extraction did."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Self

import numpy as np

from partedvae.common.file_names import in_one_line
from partedvae.familiarity import FAMILIAR, INVERTED
from partedvae.serving.extract.layout import Rows

REPORTED = 5
"""Number of unreadable images that the summary lists."""


@dataclass(kw_only=True)
class Counts:
    """Counts of some rows; those of a part are kept in it, so that a resumed extraction counts all."""

    images: int = 0
    """Rows."""
    unreadable: int = 0
    """Images without features."""
    examples: list[str] = field(default_factory=list)
    """The first `REPORTED` of them, each with its reason."""
    unfamiliar: int = 0
    """Images that are unlike the training images."""
    inverted: int = 0
    """Those of them that would be like the training images when inverted."""

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Return the counts of rows."""
        unreadable = [
            f"{in_one_line(str(key))}: {error}"
            for key, error in zip(rows.keys, rows.errors, strict=True)
            if error is not None
        ]
        texts = None if rows.features is None else rows.features.unfamiliar
        return cls(
            images=len(rows.errors),
            unreadable=len(unreadable),
            examples=unreadable[:REPORTED],
            unfamiliar=0 if texts is None else int(np.count_nonzero(texts != FAMILIAR)),
            inverted=0 if texts is None else int(np.count_nonzero(texts == INVERTED)),
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return the counts as text."""
        return json.dumps(asdict(self))

    def add(self, other: Counts) -> None:
        """Add the counts of rows that follow."""
        self.images += other.images
        self.unreadable += other.unreadable
        self.examples = (self.examples + other.examples)[:REPORTED]
        self.unfamiliar += other.unfamiliar
        self.inverted += other.inverted


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts, in the order of their rows."""
    result = Counts()
    for one in counts:
        result.add(one)
    return result


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Result of an extraction."""

    counts: Counts
    """Of all rows of the output, those of earlier runs included."""
    computed: int
    """Images of this run."""
    parts: int
    """Parts of the extraction."""
    done_before: int
    """Parts of earlier runs."""
    seconds: float
    """Duration of this run."""
    include: tuple[str, ...]
    """Columns of the output, values of --include."""
