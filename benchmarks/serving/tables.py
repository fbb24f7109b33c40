"""Tables in Markdown, and their place in a document: between two comments, replaced as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.load import BenchmarkError


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_between(document: Path, name: str, text: str) -> None:
    """Put text between the comments `<!-- name:begin -->` and `<!-- name:end -->` of a document.

    Raises:
        BenchmarkError: the document has no such comments.
    """
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise BenchmarkError(f"{document} has no {begin.strip()} followed by {end}: there is no place for the table")
    document.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
