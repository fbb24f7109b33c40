"""The batcher, the scheduler, the memory and the limiter used by several threads and the event loop at once."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from typing import Any

import numpy as np

from partedvae.serving.batching.batcher import Batcher
from partedvae.serving.batching.scheduler import BatchPolicy, SessionScheduler
from partedvae.serving.errors import MemoryLimitError, QueueFullError
from partedvae.serving.grpc.limiter import CallLimiter
from partedvae.serving.inline_task import InlineTask, on_event_loop
from partedvae.serving.memory_budget import MIB, MemoryBudget
from partedvae.serving.request_memory import RequestMemory
from tests.processes import PATIENCE
from tests.serving.gated_batches import Doubler

THREADS = 4
SECONDS = 2.0


class StressedCall(InlineTask):
    """A call with its place, its memory and its rows."""

    is_stream = False
    waits_since = 0.0

    def __init__(self, stress: Stress, connection: str, numbers: list[float], kind: int) -> None:
        super().__init__(stress.loop)
        self.connection = connection
        self._stress = stress
        self._numbers = numbers
        self._kind = kind

    def evict(self, reason: str) -> bool:
        return False

    async def serve(self) -> None:
        """Do what a call does; the kind decides where it waits."""
        stress, outcome = self._stress, "ended"
        self.memory = RequestMemory(stress.budget, self.connection)
        try:
            if not stress.limiter.try_acquire(self):
                outcome = "refused"
                return
            self.memory.reserve_message(1000)
            if self._kind == 1:
                await on_event_loop()
                await self.memory.wait(2000)
            else:
                self.memory.reserve(2000)
            column = np.array(self._numbers)
            (found,) = await stress.batcher.submit(stress.run, (column,), ("double",), blocking=self._kind == 2)
            outcome = "right" if found.tolist() == (2 * column).tolist() else "WRONG"
        except (QueueFullError, MemoryLimitError) as error:
            outcome = type(error).__name__
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            outcome = repr(error)
        finally:
            self.memory.release()
            stress.limiter.release_call(self)
            with stress.lock:
                stress.outcomes[outcome] += 1


class Stress:
    """What the threads share."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        policy = BatchPolicy(max_batch_rows=16, max_queue_rows=64, sessions=2)
        self.scheduler = SessionScheduler(policy)
        self.run: Any = Doubler()
        self.batcher = Batcher("tiny", 1, "encoder", policy, self.scheduler)
        self.budget = MemoryBudget(MIB)
        self.limiter: CallLimiter[StressedCall] = CallLimiter(64)
        self.outcomes: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.begun = 0

    def call_without_pause(self, seed: int) -> None:
        """Begin calls in bursts, and cancel some of them at any moment."""
        source = random.Random(seed)
        end = time.monotonic() + SECONDS
        recent: list[StressedCall] = []
        while time.monotonic() < end:
            calls = [
                StressedCall(
                    self,
                    f"connection {seed}",
                    [source.random() for _ in range(source.choice([1, 1, 1, 3, 40]))],
                    source.randrange(3),
                )
                for _ in range(source.randrange(1, 20))
            ]
            waiting: list[Any] = [call.begin(call.serve()) for call in calls]
            with self.lock:
                self.begun += len(calls)
            self.scheduler.submit([awaited for awaited in waiting if awaited is not None])
            recent = (recent + calls)[-50:]
            for call in source.sample(recent, len(recent) // 10):
                call.cancel()
            time.sleep(source.choice([0, 0, 0.001]))

    def is_idle(self) -> bool:
        return self.outcomes.total() == self.begun


async def test_nothing_is_lost() -> None:
    """Each call has one outcome, the numbers are its own, and no place, no memory and no row stays taken."""
    stress = Stress(asyncio.get_running_loop())
    await asyncio.gather(*(asyncio.to_thread(stress.call_without_pause, seed) for seed in range(THREADS)))
    end = time.monotonic() + PATIENCE
    while not stress.is_idle():
        assert time.monotonic() < end, f"{stress.begun} calls have begun, {stress.outcomes}"
        await asyncio.sleep(0.01)
    assert stress.outcomes["right"] > 100
    assert stress.outcomes["cancelled"] > 0
    assert stress.outcomes.keys() <= {"right", "cancelled", "refused", "QueueFullError", "MemoryLimitError"}
    assert stress.batcher.waiting_rows == 0
    assert not stress.batcher.has_rows()
    assert (stress.limiter.active_calls, list(stress.limiter)) == (0, [])
    for pool in (stress.budget.messages, stress.budget.work):
        assert (pool.reserved, pool.waiting) == (0, 0)
    stress.scheduler.close()
