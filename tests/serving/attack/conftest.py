"""Servers under attack, started again after an attack from which they have not recovered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.attack.attack import Options
from benchmarks.attack.runner import Session, session
from benchmarks.attack.server import copy_model, this_checkout
from tests.bundles import GREY

CEILING_MB = 3072
"""Memory at which a server is killed, so that a broken bound does not exhaust the machine."""

SessionOf = Callable[[Options, str], Session]


@pytest.fixture(scope="module")
def session_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionOf]:
    """Return a function from options and a front to a server with these, its sampler and its good client."""
    folder = tmp_path_factory.mktemp("attack")
    models = folder / "models"
    copy_model(GREY.write(folder / "tiny").folder, models)
    running: dict[tuple[Options, str], Session] = {}
    with ExitStack() as stack:

        def start(options: Options, front: str) -> Session:
            key = options, front
            if key not in running or not running[key].is_usable:
                running.clear()
                stack.pop_all().close()
                started = session(options, this_checkout(), models, folder, CEILING_MB, front)
                running[key] = stack.enter_context(started)
            return running[key]

        yield start


@pytest.fixture(scope="session")
def tiny_target_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of models for the fuzzer."""
    folder = tmp_path_factory.mktemp("fuzz")
    copy_model(GREY.write(folder / "tiny").folder, folder / "models")
    return folder / "models"
