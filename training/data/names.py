"""The names of the data sets, without the modules that load them: for shell completion, which imports no PyTorch."""

from __future__ import annotations

NAMES = ("mnist", "fashion-mnist", "dsprites", "faces", "faces-large", "celeba")
"""Data sets that `partedvae data list` shows."""
OWN = "folder:"
"""Start of the name of a folder of images."""
