"""The folder of --runs: its runs with what is wrong with them, and the figures that were drawn of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partedvae.common.file_names import printable
from partedvae.common.runs.nearby import runs_under
from partedvae.common.runs.stored_run import FIGURES_FOLDER, StoredRun, StoredRunError, read_run


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run of the folder."""

    key: str
    """Its path in the folder, with slashes; "." for the folder itself."""
    run: StoredRun | None
    """Its files; None where one is damaged."""
    problem: str = ""
    """What is damaged."""


def list_runs(folder: Path) -> list[Entry]:
    """Return the runs of a folder and of its subfolders, the one that was started last first."""
    entries = [_entry(folder, path) for path in runs_under(folder)]
    return sorted(entries, key=_started, reverse=True)


def figure_file(folder: Path, key: str, name: str) -> Path | None:
    """Return the file of a figure; None where the run has none of this name, or it is a link out of the folder.

    Args:
        folder: the folder of runs.
        key: the run, as in `Entry`.
        name: name of the PNG file.
    """
    path = next((path for path in runs_under(folder) if _key(folder, path) == key), None)
    if path is None:
        return None
    file = next((file for file in (path / FIGURES_FOLDER).glob("*.png") if file.name == name), None)
    return file if file is not None and file.resolve().is_relative_to(folder.resolve()) else None


def _entry(folder: Path, path: Path) -> Entry:
    try:
        return Entry(key=_key(folder, path), run=read_run(path))
    except StoredRunError as error:
        return Entry(key=_key(folder, path), run=None, problem=str(error))


def _key(folder: Path, path: Path) -> str:
    return printable(path.relative_to(folder).as_posix())


def _started(entry: Entry) -> str:
    return str(entry.run.provenance.get("started", "")) if entry.run else ""
