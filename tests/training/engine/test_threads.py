"""The choice of the number of threads, for given loads, quotas and options."""

from __future__ import annotations

import pytest
import torch

from partedvae.training.engine import threads
from partedvae.training.engine.threads import ThreadChoice, choose_threads, use_threads


@pytest.mark.parametrize(
    ("limit", "idle", "expected"),
    [
        (2, 2.0, 2),
        (2, 1.8, 2),
        (2, 1.7, 1),
        (2, 1.0, 1),
        (2, 0.1, 1),
        (2, 0.0, 1),
        (2, 34.5, 2),  # a quota of two on a large machine
        (16, 9.76, 10),
        (16, 9.7, 9),
        (1, 1.0, 1),
        (4, None, 4),
    ],
)
def test_the_default_is_the_number_of_idle_processors_within_the_quota(
    limit: int, idle: float | None, expected: int
) -> None:
    choice = choose_threads(requested=None, environment=None, recorded=None, limit=limit, idle=idle)
    assert choice.threads == expected


def test_the_option_outweighs_the_variable_and_the_variable_the_record() -> None:
    def choose(requested: int | None, environment: int | None, recorded: int | None) -> ThreadChoice:
        return choose_threads(requested=requested, environment=environment, recorded=recorded, limit=8, idle=2.0)

    assert choose(5, 4, 3) == (5, "--threads")
    assert choose(None, 4, 3) == (4, "OMP_NUM_THREADS")
    assert choose(None, None, 3) == (3, "as the run began")
    assert choose(None, None, None) == (2, "2.0 of 8 processors are idle")
    assert choose(None, None, 9) == (8, "the run began with 9, but there are 8 processors")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make it a machine with a quota of three processors of which one is idle; return the log of measurements."""
    measured: list[str] = []

    def idle() -> float:
        measured.append("idle")
        return 1.1

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "available_cpus", lambda: 3)
    monkeypatch.setattr(threads, "idle_cpus", idle)
    monkeypatch.setattr(threads, "DEFAULT_THREADS", 4)
    return measured


def test_the_chosen_number_is_set(machine: list[str]) -> None:
    assert use_threads() == (1, "1.1 of 3 processors are idle")
    assert torch.get_num_threads() == 1
    assert use_threads(2) == (2, "--threads")
    assert torch.get_num_threads() == 2
    assert machine == ["idle"]  # not measured where it does not matter


def test_a_resumed_run_keeps_its_number_on_a_busy_machine(machine: list[str]) -> None:
    assert use_threads(None, {"machine": {"threads": 3}}) == (3, "as the run began")
    assert torch.get_num_threads() == 3
    assert use_threads(1, {"machine": {"threads": 3}}) == (1, "--threads")
    assert use_threads(None, {}) == (1, "1.1 of 3 processors are idle")


def test_hyperthreads_are_not_counted(machine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch starts with one thread per core."""
    monkeypatch.setattr(threads, "available_cpus", lambda: 16)
    monkeypatch.setattr(threads, "DEFAULT_THREADS", 8)
    monkeypatch.setattr(threads, "idle_cpus", lambda: 15.0)
    assert use_threads() == (8, "8.0 of 8 processors are idle")


def test_the_variable_is_used_as_pytorch_read_it(machine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert use_threads(None, {"machine": {"threads": 3}}) == (4, "OMP_NUM_THREADS")
    assert machine == []


@pytest.mark.parametrize(("value", "used"), [("4,2", True), (" 4", True), ("0", False), ("many", False), ("", False)])
def test_a_variable_that_openmp_ignores_is_ignored(
    machine: list[str], monkeypatch: pytest.MonkeyPatch, value: str, used: bool
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert use_threads() == ((4, "OMP_NUM_THREADS") if used else (1, "1.1 of 3 processors are idle"))
