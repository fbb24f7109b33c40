"""Notes on images whose shape differs from that of the model's."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

TOLERANCE = 1.1
"""Change of the aspect ratio up to which stretching is not worth a note: augmentation scales by as much."""
LARGEST_TERM = 10
"""Aspect ratios are written with numbers up to this on their shorter side: 4:3, 16:9."""


def stretched(sizes: Sequence[tuple[int, int]], common: tuple[int, int]) -> list[str]:
    """Return a note if images are stretched visibly, with their number and the shape that changes most.

    Args:
        sizes: height and width of each image.
        common: height and width that they are resized to.
    """
    height, width = common
    changes = {size: _change(size, common) for size in set(sizes)}
    count = sum(changes[size] > TOLERANCE for size in sizes)
    if not count:
        return []
    most = max(sorted(changes), key=changes.__getitem__)
    shape = "square" if height == width else f"of the shape of {width}x{height}"
    verb = "is" if count == 1 else "are"
    return [
        f"{count:,} of {len(sizes):,} images {verb} not {shape} (up to {_ratio(*most)}) and {verb} stretched to "
        f"{width}x{height}; --fit pad or --fit crop keeps their shape"
    ]


def _change(size: tuple[int, int], common: tuple[int, int]) -> float:
    """Return the factor by which stretching changes the aspect ratio, at least 1."""
    change = (size[0] * common[1]) / (size[1] * common[0])
    return max(change, 1 / change)


def _ratio(height: int, width: int) -> str:
    """Return the aspect ratio, width first, in small numbers that are close to it."""
    ratio = Fraction(max(height, width), min(height, width)).limit_denominator(LARGEST_TERM)
    long, short = ratio.numerator, ratio.denominator
    return f"{long}:{short}" if width > height else f"{short}:{long}"
