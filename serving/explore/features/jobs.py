"""The projections of one file: PCA immediately, others in the background, shared by all visitors.

Two visitors who ask for the same map get one computation. It is ended when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partedvae.common.cpus import available_cpus
from partedvae.results import FloatArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.explore.features.projections import (
    FEWEST,
    METHODS,
    TITLES,
    Method,
    fitted,
    pca,
    sample,
    scattered,
    unavailable,
)
from partedvae.serving.explore.features.spaces import Space

MOST_KEPT = 32
"""Projections that are kept in memory, of 8 bytes per point."""


@dataclass(frozen=True, kw_only=True)
class MapKey:
    """What a projection depends on."""

    space: str
    method: Method
    points: int
    """Most points that are projected; 0 for all."""

    def __str__(self) -> str:
        """Return it as in URLs: "u.tsne.5000"."""
        return f"{self.space}.{self.method}.{self.points}"


@dataclass(kw_only=True, eq=False)
class Projection:
    """A projection that is computed, or will be."""

    key: MapKey
    points: int
    """Points that it places."""
    positions: FloatArray | None = None
    """float32 [points of the file, 2] within [-1, 1], NaN for points that are not placed; None until it is done."""
    share: float | None = None
    """Share of the variance that PCA shows."""
    done: float = 0.0
    """Share of the computation that is done, from 0 to 1."""
    error: str = ""
    """Why it failed; empty if it did not."""
    started: float | None = None
    """Time of `time.monotonic`; None while others are computed before it."""
    waiting: int = 0
    """Visitors who wait for it."""
    task: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """What to show of it: "queued", "running", "done", or "failed"."""
        if self.error:
            return "failed"
        if self.positions is not None:
            return "done"
        return "queued" if self.started is None else "running"

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until it is done; None while there is no estimate."""
        if self.started is None or self.done < 0.05:
            return None
        return (time.monotonic() - self.started) * (1 - self.done) / self.done


class Projections:
    """The projections of the spaces of one file."""

    def __init__(self, spaces: Mapping[str, Space]) -> None:
        """Create them; nothing is computed yet."""
        self._spaces = spaces
        self._known: OrderedDict[MapKey, Projection] = OrderedDict()
        self._turn = asyncio.Semaphore(1)

    def key(self, space: str, method: str, points: int) -> MapKey:
        """Return the key of a projection.

        Raises:
            InvalidInputError: there is no such space or method, or the method needs what is not there.
        """
        if space not in self._spaces:
            raise InvalidInputError(f"space {space!r} is none of {', '.join(self._spaces)}")
        chosen = next((known for known in METHODS if known == method), None)
        if chosen is None:
            raise InvalidInputError(f"method {method!r} is none of {', '.join(METHODS)}")
        if reason := unavailable(chosen):
            raise InvalidInputError(reason)
        there = len(self._spaces[space].features)
        if chosen == "pca":
            return MapKey(space=space, method=chosen, points=0)
        if there < FEWEST:
            raise InvalidInputError(f"{TITLES[chosen]} needs at least {FEWEST} points, and there are {there}; use PCA")
        if points and points < FEWEST:
            raise InvalidInputError(f"points is {points}; it must be at least {FEWEST}, or 0 for all")
        return MapKey(space=space, method=chosen, points=points if 0 < points < there else 0)

    def find(self, key: MapKey) -> Projection | None:
        """Return a projection that is computed or was asked for; None if there is none."""
        return self._known.get(key)

    async def ask(self, key: MapKey) -> Projection:
        """Return a projection, and begin to compute it if nobody has.

        PCA is done when it returns. For others, `release` must follow, when the visitor has it or does not wait for it
        any more.
        """
        projection = self._known.get(key)
        if projection is None or projection.error:
            there = len(self._spaces[key.space].features)
            projection = Projection(key=key, points=key.points or there)
            self._known[key] = projection
        self._known.move_to_end(key)
        if projection.task is None:
            projection.task = asyncio.create_task(self._compute(projection), name=f"map {key}")
        projection.waiting += 1
        if key.method == "pca":
            await asyncio.shield(projection.task)
        return projection

    def release(self, projection: Projection) -> None:
        """Stop waiting for a projection; it is ended if nobody else waits and it is not done."""
        projection.waiting -= 1
        if not projection.waiting and projection.state in ("queued", "running") and projection.task is not None:
            projection.task.cancel()
            self._known.pop(projection.key, None)

    async def close(self) -> None:
        """End what is computed."""
        tasks = [p.task for p in self._known.values() if p.task is not None and not p.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _compute(self, projection: Projection) -> None:
        features = self._spaces[projection.key.space].features
        try:
            if projection.key.method == "pca":
                projection.started = time.monotonic()
                positions, projection.share = await asyncio.to_thread(pca, features)
            else:
                async with self._turn:
                    projection.started = time.monotonic()
                    chosen = sample(len(features), projection.points)
                    placed = await _in_process(projection, features[chosen])
                    positions = scattered(placed, chosen, len(features))
            projection.positions = fitted(positions)
            projection.done = 1.0
        except (OSError, ValueError, RuntimeError) as error:
            projection.error = str(error)
        self._forget()

    def _forget(self) -> None:
        """Forget the projections that were used the longest time ago."""
        for key in list(self._known):
            if len(self._known) <= MOST_KEPT:
                break
            if self._known[key].state in ("done", "failed"):
                del self._known[key]


async def _in_process(projection: Projection, features: FloatArray) -> FloatArray:
    """Compute a projection in a process, which ends with this task.

    Raises:
        RuntimeError: the process failed; the message is the last line of its error.
    """
    with tempfile.TemporaryDirectory(prefix="partedvae-map-") as folder:
        source, destination = Path(folder) / "features.npy", Path(folder) / "positions.npy"
        await asyncio.to_thread(np.save, source, features)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "partedvae.serving.explore.features.projection_worker", projection.key.method),
            *(source, destination),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
        )
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            errors = asyncio.create_task(process.stderr.read())
            async for line in process.stdout:
                projection.done = float(line)
            code = await process.wait()
            message = (await errors).decode("utf-8", "replace").strip()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if code:
            last = message.splitlines()[-1] if message else f"exit code {code}"
            raise RuntimeError(f"{TITLES[projection.key.method]} failed: {last}")
        return np.asarray(await asyncio.to_thread(np.load, destination), dtype=np.float32)


def _environment() -> dict[str, str]:
    """Return the environment of the process: one processor is left to the pages, and threads do not wait busily."""
    threads = str(max(1, available_cpus() - 1))
    return os.environ | {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
