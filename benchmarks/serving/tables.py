"""Tables in Markdown, and sections of a document that are delimited by comments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.load import BenchmarkError


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def replace_section(document: Path, name: str, text: str) -> None:
    """Replace the text between the comments `<!-- name:begin -->` and `<!-- name:end -->` of a document.

    Raises:
        BenchmarkError: the comments are missing.
    """
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise BenchmarkError(f"{document} has no {begin.strip()} followed by {end} around the table")
    document.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
