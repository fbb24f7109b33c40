"""What can go wrong in an export."""

from __future__ import annotations


class ExportError(ValueError):
    """A graph cannot be written, or does not compute what PyTorch computes. No bundle appears."""
