"""Run directories in a folder, and near a path that is not one, for the suggestion of an error."""

from __future__ import annotations

import os
from pathlib import Path

from partedvae.common.suggest import nearest

CONFIG_FILE = "config.json"
"""The file by which a run directory is recognised."""
MANIFEST_FILE = "manifest.json"
"""The file by which a version of an exported model is recognised."""
DEFAULT_PARENT = Path("runs")
"""Folder of the runs of `partedvae train` without --output."""
MAX_DEPTH = 6
"""Levels of folders in which runs are looked for; `partedvae reproduce` makes three."""

_SHOWN = 5


def runs_in(folder: Path) -> list[Path]:
    """Return the run directories in a folder, in order; none where it is not a folder or cannot be listed."""
    try:
        return sorted(entry for entry in folder.iterdir() if (entry / CONFIG_FILE).is_file())
    except OSError:
        return []


def runs_under(folder: Path) -> list[Path]:
    """Return the folder itself where it is a run directory, otherwise those in it and in its subfolders, in order.

    Hidden folders are left out, and those more than `MAX_DEPTH` levels down.
    """
    if (folder / CONFIG_FILE).is_file():
        return [folder]
    found = []
    for path, folders, files in os.walk(folder):
        place = Path(path)
        if CONFIG_FILE in files:
            found.append(place)
        deepest = len(place.relative_to(folder).parts) == MAX_DEPTH
        folders[:] = [] if CONFIG_FILE in files or deepest else [name for name in folders if not name.startswith(".")]
    return sorted(found)


def suggestion(path: Path) -> str:
    """Return which run may have been meant by a path that is no run directory; empty where there is none near it."""
    within = runs_in(path)
    if within:
        names = ", ".join(run.name for run in within[:_SHOWN]) + (", …" if len(within) > _SHOWN else "")
        return f"it holds the runs {names}; pass one of them, such as {within[0]}"
    if (path / MANIFEST_FILE).is_file() or any(path.glob(f"*/{MANIFEST_FILE}")):
        return "it is an exported model; pass the run that it was exported from"
    if (path.parent / CONFIG_FILE).is_file():
        return f"it is a part of one; did you mean {str(path.parent)!r}?"
    if not path.exists():
        for folder in (path.parent, DEFAULT_PARENT):
            runs = {run.name: run for run in runs_in(folder)}
            # A data set in place of its run, such as mnist, is not similar enough to be the nearest.
            near = nearest(path.name, runs) or next((name for name in runs if name.startswith(f"{path.name}-")), None)
            if near:
                return f"did you mean {str(runs[near])!r}?"
    return ""
