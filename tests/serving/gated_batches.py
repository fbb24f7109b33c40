"""A graph for tests of batching: it doubles numbers, notes each batch, and can be held at a gate or told to fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np

from partedvae.serving.batching.batch import Columns
from partedvae.serving.batching.batcher import Batcher, BatchObserver, BatchPolicy
from partedvae.serving.batching.scheduler import Slots
from tests.processes import PATIENCE


class Doubler:
    """Stands for a session: takes a column of numbers, gives "double" and "negative" of each."""

    def __init__(self, *, gated: bool = False, bad: float | None = None) -> None:
        """Start with the gate closed or open; a batch with the number `bad` in it fails."""
        self.batches: list[list[float]] = []
        self.outputs: list[tuple[str, ...]] = []
        self.gate = threading.Event()
        self._bad = bad
        if not gated:
            self.gate.set()

    def __call__(self, columns: Columns, outputs: tuple[str, ...]) -> Columns:
        """Run a batch."""
        (numbers,) = columns
        self.batches.append(numbers.tolist())
        self.outputs.append(outputs)
        assert self.gate.wait(PATIENCE)
        if self._bad in numbers:
            raise ArithmeticError(f"{self._bad} is bad")
        results = {"double": 2 * numbers, "negative": -numbers}
        return tuple(results[name] for name in outputs)


class Bench:
    """A batcher with its slots, on the running event loop."""

    def __init__(
        self,
        run: Doubler,
        policy: BatchPolicy,
        observer: BatchObserver | None = None,
        slots: Slots | None = None,
    ) -> None:
        """Put it together, with slots of its own or another's."""
        self.run = run
        self.slots = slots or Slots(policy.sessions)
        self.batcher = Batcher("tiny", 1, "encoder", policy, self.slots, observer)

    def ask(
        self, numbers: Sequence[float], outputs: tuple[str, ...] = ("double",), *, wait: bool = False
    ) -> asyncio.Task[Columns]:
        """Send a request."""
        column = np.array(numbers, dtype=np.float64)
        return asyncio.create_task(self.batcher.submit(self.run, (column,), outputs, wait=wait))

    def close(self) -> None:
        """Open the gate, so that no thread is left behind."""
        self.run.gate.set()
        self.slots.close()


async def eventually(condition: Callable[[], bool]) -> None:
    """Let the event loop go on until something is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def bench(run: Doubler, **policy: float) -> AsyncIterator[Bench]:
    made = Bench(run, BatchPolicy(**policy))  # type: ignore[arg-type]  # whole numbers where it wants them
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def held(run: Doubler, **policy: float) -> AsyncIterator[Bench]:
    """Yield a bench whose only session is held by a request for the number 0."""
    async with bench(run, **policy) as made:
        first = made.ask([0])
        await eventually(lambda: run.batches == [[0]])
        try:
            yield made
        finally:
            run.gate.set()
            await asyncio.wait_for(asyncio.gather(first, return_exceptions=True), 60)
