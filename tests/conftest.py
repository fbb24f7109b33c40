"""Fixtures for all tests: folders with tiny models, servers of these models, and MNIST."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bundles import COLOURED, GREY
from tests.fronts import FRONTS
from tests.processes import ServerProcess, running_server

if TYPE_CHECKING:
    from partedvae.training.data.dataset import ImageDataset


# Shells start background jobs with SIGINT ignored, and nohup with SIGHUP, which child processes inherit: tests that
# interrupt a process would wait forever.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _keep_denormals() -> Iterator[None]:
    """Restore denormal numbers after each test: training flushes them to zero, which hypothesis does not accept."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a read-only folder with one model, `tiny` version 1 (`tests.bundles.GREY`)."""
    folder = tmp_path_factory.mktemp("tiny-models")
    GREY.write(folder / "tiny")
    return folder


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a read-only folder with `tiny` versions 1 and 2 (GREY) and `shapes` version 1 (COLOURED)."""
    folder = tmp_path_factory.mktemp("two-models")
    GREY.write(folder / "tiny")
    GREY.write(folder / "tiny")
    COLOURED.write(folder / "shapes")
    return folder


@pytest.fixture(scope="module", params=FRONTS)
def each_front(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the tests that use it once with each front, and return its name; servers that they start have it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PARTEDVAE_SERVE_FRONT", request.param)
        yield request.param


@pytest.fixture(scope="session")
def server(tiny_models: Path) -> Iterator[ServerProcess]:
    """Run a server of `tiny_models`; it must end with exit code 0."""
    with running_server(tiny_models, "--front", "grpcio") as process:
        yield process


@pytest.fixture(scope="session")
def native_server(tiny_models: Path) -> Iterator[ServerProcess]:
    """Run a server as `server` with the native front."""
    with running_server(tiny_models, "--front", "native") as process:
        yield process


@pytest.fixture(scope="session")
def two_model_server(two_models: Path) -> Iterator[ServerProcess]:
    """Run a server of `two_models` with at most 100 images per request; it must end with exit code 0."""
    with running_server(two_models, "--front", "grpcio", "--max-images", "100") as process:
        yield process


@pytest.fixture(scope="session")
def native_two_model_server(two_models: Path) -> Iterator[ServerProcess]:
    """Run a server as `two_model_server` with the native front."""
    with running_server(two_models, "--front", "native", "--max-images", "100") as process:
        yield process


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the data folder of the checkout, so that MNIST is downloaded only once."""
    return Path(__file__).parent.parent / "data"


@pytest.fixture(scope="session")
def mnist(data_dir: Path) -> ImageDataset:
    """Return MNIST, which is downloaded on first use."""
    from partedvae.training.data.registry import load_dataset

    return load_dataset("mnist", data_dir)
