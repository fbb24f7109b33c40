"""The error of export."""

from __future__ import annotations


class ExportError(ValueError):
    """The run cannot be exported, or its graphs do not reproduce PyTorch; no bundle is written."""
