"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from partedvae.common.fit import DEFAULT_FIT, Fit
from partedvae.common.suggest import did_you_mean
from partedvae.training.data import celeba, dsprites, faces, fashion_mnist, folder, mnist
from partedvae.training.data.dataset import DatasetInfo, ImageDataset, LabelUse
from partedvae.training.data.names import FOLDER, check_fit


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Functions that describe and load a data set."""

    describe: Callable[[Path], DatasetInfo]
    """Returns the description, without reading images; the argument is the data folder."""
    load: Callable[[Path], ImageDataset]
    """Returns the data set, downloaded or drawn on first use; the argument is the data folder."""


@dataclass(frozen=True, kw_only=True)
class ListedEntry(Entry):
    """A data set that `partedvae data list` shows."""

    state: Callable[[Path], str]
    """Returns its availability in a few words, given the data folder, without reading or downloading images."""
    summary: str
    """Description in one line."""


def _state_of_files(name: str, files: tuple[str, ...], data_dir: Path) -> str:
    available = all((data_dir / name / file).is_file() or (data_dir / name / f"{file}.gz").is_file() for file in files)
    return "available" if available else "not downloaded yet"


def _state_of_faces(size: tuple[int, int], data_dir: Path) -> str:
    return "available" if faces.faces_are_available(data_dir, size) else "not drawn yet"


def _state_of_dsprites(data_dir: Path) -> str:
    return "original" if (data_dir / "dsprites" / dsprites.FILE).is_file() else "drawn on first use"


def _state_of_celeba(data_dir: Path) -> str:
    return "available" if celeba.celeba_is_available(data_dir) else "requires your files"


ENTRIES: dict[str, ListedEntry] = {
    "mnist": ListedEntry(
        describe=lambda _: mnist.INFO,
        load=mnist.load_mnist,
        state=partial(_state_of_files, "mnist", tuple(mnist.SOURCE.files)),
        summary="handwritten digits, 60,000 + 10,000",
    ),
    "fashion-mnist": ListedEntry(
        describe=lambda _: fashion_mnist.INFO,
        load=fashion_mnist.load_fashion_mnist,
        state=partial(_state_of_files, "fashion-mnist", tuple(fashion_mnist.SOURCE.files)),
        summary="clothes, 60,000 + 10,000",
    ),
    "dsprites": ListedEntry(
        describe=lambda _: dsprites.INFO,
        load=dsprites.load_dsprites,
        state=_state_of_dsprites,
        summary="shapes of all sizes and positions, 737,280; your copy of the original, or drawn",
    ),
    "faces": ListedEntry(
        describe=lambda _: faces.faces_info(faces.SMALL),
        load=faces.load_faces,
        state=partial(_state_of_faces, faces.SMALL),
        summary="drawn faces, 20,000 + 2,000",
    ),
    "faces-large": ListedEntry(
        describe=lambda _: faces.faces_info(faces.LARGE),
        load=partial(faces.load_faces, size=faces.LARGE),
        state=partial(_state_of_faces, faces.LARGE),
        summary="drawn faces in the size of CelebA, 20,000 + 2,000",
    ),
    "celeba": ListedEntry(
        describe=lambda _: celeba.INFO,
        load=celeba.load_celeba,
        state=_state_of_celeba,
        summary="photographed faces, 162,770 + 19,962; your copy",
    ),
}


def entry(name: str, fit: Fit = DEFAULT_FIT, labels: LabelUse = "required") -> Entry:
    """Return the entry of a data set.

    Args:
        name: its name; `folder:PATH` is a folder of the user's own images.
        fit: how images of a folder that have another shape are fitted to the common size.
        labels: whether a folder must have labels.

    Raises:
        ValueError: the name is unknown (the message has the nearest one), or its images have a fixed size and cannot be
            fitted.
    """
    if name.startswith(FOLDER):
        if name == FOLDER:
            raise ValueError("folder: lacks a path; write folder:PATH with the folder of your images")
        path = Path(name.removeprefix(FOLDER))
        return Entry(
            describe=lambda _: folder.describe_folder(path, labels),
            load=lambda _: folder.load_folder(path, fit, labels),
        )
    if name not in ENTRIES and (any(separator in name for separator in "/\\") or Path(name).is_dir()):
        raise ValueError(f"no data set is called {name!r}; did you mean {FOLDER + name!r}?")
    if name not in ENTRIES:
        raise ValueError(
            f"no data set is called {name!r}{did_you_mean(name, ENTRIES)} "
            f"(there are: {', '.join(ENTRIES)}, and {FOLDER}PATH for your own images)"
        )
    check_fit(name, None if fit == DEFAULT_FIT else fit)
    return ENTRIES[name]


def load_dataset(name: str, data_dir: Path, fit: Fit = DEFAULT_FIT, labels: LabelUse = "required") -> ImageDataset:
    """Load a data set by name.

    Args:
        name: its name; see `entry`.
        data_dir: folder of the data sets.
        fit: how images of another shape are fitted; see `entry`.
        labels: whether a folder must have labels.

    Raises:
        ValueError: the name is unknown, or its images cannot be fitted.
        DataError: the data set is not available.
    """
    return entry(name, fit, labels).load(data_dir)
