"""Fixtures that all rooms share: folders with tiny real models, and a real server over one of them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bundles import COLOURED, GREY
from tests.processes import ServerProcess, running_server

if TYPE_CHECKING:
    from partedvae.training.data.dataset import ImageDataset


# A shell starts jobs in the background with SIGINT ignored, and processes inherit that: tests that interrupt a process
# they started would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _keep_denormals() -> Iterator[None]:
    """Undo, after each test, what training does to the processor's small numbers: hypothesis refuses to work so."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one model, `tiny` version 1, which is `tests.bundles.GREY`. Not to be written to."""
    folder = tmp_path_factory.mktemp("tiny-models")
    GREY.write(folder / "tiny")
    return folder


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `tiny` versions 1 and 2 (GREY) and `shapes` version 1 (COLOURED). Not to be written to."""
    folder = tmp_path_factory.mktemp("two-models")
    GREY.write(folder / "tiny")
    GREY.write(folder / "tiny")
    COLOURED.write(folder / "shapes")
    return folder


@pytest.fixture(scope="session")
def server(tiny_models: Path) -> Iterator[ServerProcess]:
    """Run a server over `tiny_models`; it must end with exit code 0."""
    with running_server(tiny_models) as process:
        yield process


@pytest.fixture(scope="session")
def two_model_server(two_models: Path) -> Iterator[ServerProcess]:
    """Run a server over `two_models`, at most 100 images a request; it must end with exit code 0."""
    with running_server(two_models, "--max-images", "100") as process:
        yield process


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of the data sets: the checkout's own, so that MNIST is fetched only once."""
    return Path(__file__).parent.parent / "data"


@pytest.fixture(scope="session")
def mnist(data_dir: Path) -> ImageDataset:
    """Return the real MNIST, fetched the first time."""
    from partedvae.training.data.registry import load_dataset

    return load_dataset("mnist", data_dir)
