"""Run directories near a path that is not one, for the suggestion of an error."""

from __future__ import annotations

from pathlib import Path

from partedvae.common.suggest import nearest

CONFIG_FILE = "config.json"
"""The file by which a run directory is recognised."""
DEFAULT_PARENT = Path("runs")
"""Folder of the runs of `partedvae train` without --output."""

_SHOWN = 5


def runs_in(folder: Path) -> list[Path]:
    """Return the run directories in a folder, in order; none where it is not a folder or cannot be listed."""
    try:
        return sorted(entry for entry in folder.iterdir() if (entry / CONFIG_FILE).is_file())
    except OSError:
        return []


def suggestion(path: Path) -> str:
    """Return which run may have been meant by a path that is no run directory; empty where there is none near it."""
    within = runs_in(path)
    if within:
        names = ", ".join(run.name for run in within[:_SHOWN]) + (", …" if len(within) > _SHOWN else "")
        return f"it holds the runs {names}; pass one of them, such as {within[0]}"
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
