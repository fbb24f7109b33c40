"""The names of the data sets, without the modules that load them: for shell completion, which imports no PyTorch."""

from __future__ import annotations

from pathlib import Path

from partedvae.common.fit import Fit

NAMES = ("mnist", "fashion-mnist", "dsprites", "faces", "faces-large", "celeba")
"""Data sets that `partedvae data list` shows."""
FOLDER = "folder:"
"""Start of the name of a folder of images."""
FILE_PREFIX = "file:"
"""Start of a selection of labelled images by a list of them in a file."""


def resolve_path(value: str, prefix: str = FOLDER) -> str:
    """Make the path in "folder:PATH", or after another prefix, absolute: the run is used from any working directory."""
    path = value.removeprefix(prefix)
    return f"{prefix}{Path(path).resolve()}" if value.startswith(prefix) and path else value


def check_fit(dataset: str, fit: Fit | None) -> None:
    """Check that the images of a data set can be fitted.

    Args:
        dataset: name of the data set.
        fit: how images of another shape are to be fitted; None where it was not given.

    Raises:
        ValueError: it was given, and the images of the data set have a fixed size.
    """
    if fit is not None and not dataset.startswith(FOLDER):
        raise ValueError(f"the images of {dataset!r} have a fixed size; omit --fit {fit}, which is for {FOLDER}PATH")
