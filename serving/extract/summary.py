"""What an extraction did."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from partedvae.common.file_names import in_one_line
from partedvae.familiarity import FAMILIAR, INVERTED
from partedvae.serving.extract.layout import Rows

REPORTED = 5
"""Number of unreadable images that the summary lists."""


@dataclass(kw_only=True)
class Summary:
    """Counts of an extraction."""

    images: int = 0
    """Images in the source."""
    unreadable: int = 0
    """Images without features."""
    examples: list[str] = field(default_factory=list)
    """The first `REPORTED` of them, each with its reason."""
    unfamiliar: int = 0
    """Images that are unlike the training images."""
    inverted: int = 0
    """Those of them that would be like the training images when inverted."""
    seconds: float = 0.0
    """Duration."""

    def count(self, rows: Rows) -> None:
        """Add rows to the counts."""
        self.images += len(rows.errors)
        for key, error in zip(rows.keys, rows.errors, strict=True):
            if error is not None:
                self.unreadable += 1
                if len(self.examples) < REPORTED:
                    self.examples.append(f"{in_one_line(str(key))}: {error}")
        if rows.features is not None and rows.features.unfamiliar is not None:
            self.unfamiliar += int(np.count_nonzero(rows.features.unfamiliar != FAMILIAR))
            self.inverted += int(np.count_nonzero(rows.features.unfamiliar == INVERTED))
