"""A graph for tests of batching: it doubles numbers, records each batch, and can be held or made to fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np

from partedvae.serving.batching.batcher import Batcher, BatchObserver
from partedvae.serving.batching.request import Columns
from partedvae.serving.batching.scheduler import BatchPolicy, SessionScheduler
from tests.processes import PATIENCE


class Doubler:
    """Replaces a session: maps a column of numbers to "double" and "negative" of each."""

    def __init__(self, *, gated: bool = False, bad: float | None = None) -> None:
        """Create the graph with its gate closed or open; a batch that contains the number `bad` fails."""
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
    """A batcher with its scheduler, on the running event loop."""

    def __init__(
        self,
        run: Doubler,
        policy: BatchPolicy,
        observer: BatchObserver | None = None,
        scheduler: SessionScheduler | None = None,
    ) -> None:
        """Create a batcher, with a scheduler of its own or that of another bench."""
        self.run = run
        self.scheduler = scheduler or SessionScheduler(policy)
        self.batcher = Batcher("tiny", 1, "encoder", policy, self.scheduler, observer)

    def ask(
        self, numbers: Sequence[float], outputs: tuple[str, ...] = ("double",), *, blocking: bool = False
    ) -> asyncio.Task[Columns]:
        """Submit a request."""
        column = np.array(numbers, dtype=np.float64)
        return asyncio.create_task(self.batcher.submit(self.run, (column,), outputs, blocking=blocking))

    def close(self) -> None:
        """Open the gate, so that no thread is left blocked."""
        self.run.gate.set()
        self.scheduler.close()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def bench(run: Doubler, **policy: float) -> AsyncIterator[Bench]:
    made = Bench(run, BatchPolicy(**policy))  # type: ignore[arg-type]  # int for the fields that are int
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
