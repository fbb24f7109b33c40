"""The number of threads of PyTorch, chosen so that training is fast on a busy machine, too.

The threads of one operation wait for each other. Where other programs use the processors, a thread that has none delays
all others: with four busy programs on two processors, steps with two threads took 1.6 to 1.9 times as long as with one.
The number is fixed for a run, because sums are rounded differently with another one.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch

from partedvae.common.cpus import available_cpus, idle_cpus

DEFAULT_THREADS = torch.get_num_threads()
"""The number that PyTorch starts with: OMP_NUM_THREADS, or the cores of the machine, without its hyperthreads."""
ENOUGH = 0.75
"""Idle share of a processor that counts as a whole one."""


class ThreadChoice(NamedTuple):
    """A number of threads."""

    threads: int
    """The number."""
    reason: str
    """Why it was chosen."""


def choose_threads(
    *, requested: int | None, environment: int | None, recorded: int | None, limit: int, idle: float | None
) -> ThreadChoice:
    """Choose the number of threads; of the first three, the first that is given is used.

    Args:
        requested: the option --threads.
        environment: the number that OMP_NUM_THREADS sets.
        recorded: the number that the run was started with, if it is resumed.
        limit: processors that this process may use.
        idle: processors that other programs leave idle; None if it is not known.
    """
    if requested is not None:
        return ThreadChoice(requested, "--threads")
    if environment is not None:
        return ThreadChoice(environment, "OMP_NUM_THREADS")
    if recorded is not None:
        if recorded > limit:
            return ThreadChoice(limit, f"the run began with {recorded}, but there are {limit} processors")
        return ThreadChoice(recorded, "as the run began")
    if idle is None:
        return ThreadChoice(limit, f"{limit} processors")
    count = max(1, min(limit, int(idle + 1 - ENOUGH)))
    return ThreadChoice(count, f"{min(idle, limit):.1f} of {limit} processors are idle")


def _is_set(name: str) -> bool:
    """Return whether a variable has a number of threads, or one for each level (4,2); OpenMP ignores other values."""
    first = os.environ.get(name, "").partition(",")[0].strip()
    return first.isdecimal() and int(first) > 0


def use_threads(requested: int | None = None, provenance: dict[str, Any] | None = None) -> ThreadChoice:
    """Choose the number of threads, set it, and return it.

    Args:
        requested: the option --threads; None chooses the number.
        provenance: provenance of the run that is resumed, which has its number.
    """
    environment = DEFAULT_THREADS if _is_set("OMP_NUM_THREADS") else None
    recorded = (provenance or {}).get("machine", {}).get("threads")
    given = requested is not None or environment is not None or recorded is not None
    choice = choose_threads(
        requested=requested,
        environment=environment,
        recorded=recorded,
        limit=min(available_cpus(), DEFAULT_THREADS),
        idle=None if given else idle_cpus(),
    )
    torch.set_num_threads(choice.threads)
    return choice
