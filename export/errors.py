"""The error of export."""

from __future__ import annotations

REMEDY = "no bundle was written; install the versions of constraints.txt, or report this"
"""Remedy of graphs that are not what PyTorch computes, which versions that were not tried may write."""


class ExportError(ValueError):
    """The run cannot be exported, or its graphs do not reproduce PyTorch; no bundle is written."""
