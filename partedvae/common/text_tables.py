"""Tables as lines of text, for terminals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def table_lines(rows: Sequence[Sequence[object]], *, right: bool = False) -> Iterator[str]:
    """Yield rows as lines with aligned columns, without spaces at the ends.

    Args:
        rows: cells, the same number in each row; usually titles are the first.
        right: whether to align all columns but the first on the right, as numbers are.
    """
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if right and position else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
