"""Plans: work that needs graph runs, written once as a generator that asks for them, whoever runs them and when.

A plan yields what to run (`Encode`, `Decode`, `Score`), gets the arrays back, and returns its result. `carry_out` runs
it here and now on a `Runtime`; `carry_out_batched` runs it on an event loop, with each run in a batch with others'.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from partedvae.results import FloatArray, ImageArray
from partedvae.serving.onnx.model import Runtime

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Encode:
    """Asks for `Runtime.encode`; the plan gets float32 [images, …] by name."""

    images: ImageArray
    outputs: Sequence[str]


@dataclass(frozen=True, eq=False)
class Score:
    """Asks for `Runtime.score`; the plan gets float32 [images] by name."""

    images: ImageArray
    outputs: Sequence[str]


@dataclass(frozen=True, eq=False)
class Decode:
    """Asks for `Runtime.decode`; the plan gets uint8 [images, height, width, channels]."""

    u: FloatArray
    z: FloatArray


GraphRun: TypeAlias = Encode | Score | Decode
Plan: TypeAlias = Generator[GraphRun, Any, T]
"""What is sent in is the result of the run that was asked for."""


class AsyncModel(Protocol):
    """What `carry_out_batched` needs: `partedvae.serving.batching.model.BatchedModel`."""

    async def encode(self, images: ImageArray, outputs: Sequence[str], *, wait: bool = False) -> dict[str, FloatArray]:
        """Run the encoder."""

    async def score(self, images: ImageArray, outputs: Sequence[str], *, wait: bool = False) -> dict[str, FloatArray]:
        """Run the scorer."""

    async def decode(self, u: FloatArray, z: FloatArray, *, wait: bool = False) -> ImageArray:
        """Run the decoder."""


def carry_out(runtime: Runtime, plan: Plan[T]) -> T:
    """Run a plan in this thread and return its result; what it raises is raised."""
    result: Any = None
    while True:
        try:
            asked = plan.send(result)
        except StopIteration as end:
            done: T = end.value
            return done
        match asked:
            case Encode(images, outputs):
                result = runtime.encode(images, outputs)
            case Score(images, outputs):
                result = runtime.score(images, outputs)
            case Decode(u, z):
                result = runtime.decode(u, z)


async def carry_out_batched(model: AsyncModel, plan: Plan[T], *, wait: bool = False) -> T:
    """Run a plan on the event loop and return its result.

    Args:
        model: where to run.
        plan: what to run.
        wait: whether the first run waits for room where the queue is full. The later ones always do: a call that was
            accepted is not refused half-way.

    Raises:
        OverloadedError: the queue is full, and `wait` is false.
    """
    result: Any = None
    while True:
        try:
            asked = plan.send(result)
        except StopIteration as end:
            done: T = end.value
            return done
        match asked:
            case Encode(images, outputs):
                result = await model.encode(images, outputs, wait=wait)
            case Score(images, outputs):
                result = await model.score(images, outputs, wait=wait)
            case Decode(u, z):
                result = await model.decode(u, z, wait=wait)
        wait = True
