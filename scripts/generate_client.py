"""Generate `partedvae/client.py`, the synchronous client, from `partedvae/aio.py`, as httpcore does.

Each line is rewritten by regular expressions, in code and docstrings alike; then ruff formats the file.

Usage:
    python scripts/generate_client.py           write the file ('make client')
    python scripts/generate_client.py --check   fail if the file is not up to date ('make check-client')
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path("partedvae/aio.py")
TARGET = Path("partedvae/client.py")
HEADER = '"""The synchronous client. Generated from partedvae/aio.py by \'make client\': do not edit."""\n'

PARAGRAPHS = {
    "A connection to a PartedVAE server for one event loop; use it in an `async with` block.": (
        "A connection to a PartedVAE server; use it in a `with` block. Threads may share it."
    ),
    "    Image files are read in a thread, so that they do not block the event loop.\n\n": "",
}
"""Text that differs in more than the words below."""

SUBSTITUTIONS = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(Client|Transport|Iterator)\b", r"\1"),
    (r"\bpartedvae\.async_transport\b", "partedvae.transport"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\baclosing\b", "closing"),
]


def synchronous(source: str) -> str:
    """Return the text of the synchronous client for that of the asynchronous one."""
    for old, new in PARAGRAPHS.items():
        if source.count(old) != 1:
            sys.exit(f"{SOURCE} does not contain this text exactly once: {old.strip()}; adapt PARAGRAPHS in {__file__}")
        source = source.replace(old, new)
    for pattern, replacement in SUBSTITUTIONS:
        source = re.sub(pattern, replacement, source)
    text = HEADER + source.partition("\n")[2]
    text = ruff("check", "--select", "I", "--fix", "--quiet", text=text)
    return ruff("format", "--quiet", text=text)


def ruff(*arguments: str, text: str) -> str:
    """Return a text as ruff changes it."""
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    """Write the file, or compare it."""
    expected = synchronous(SOURCE.read_text(encoding="utf-8"))
    if sys.argv[1:] != ["--check"]:
        TARGET.write_text(expected, encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != expected:
        sys.exit(f"{TARGET} is not up to date with {SOURCE}: run 'make client'")


if __name__ == "__main__":
    main()
