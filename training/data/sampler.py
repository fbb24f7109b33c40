"""Which images a step sees: a pure function of the seed and the step, so that a resumed run goes on exactly."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

MIX = 0x9E3779B97F4A7C15
"""An odd constant that spreads (seed, pass) over the generator's 64-bit seeds."""


class Batches:
    """Endless shuffled batches over `count` items, by step number.

    Each pass is a new permutation. The last batch of a pass is smaller; with fewer items than one batch, each batch is
    all of them.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        """Plan batches over items 0 to count - 1."""
        self.count = count
        self.batch_size = min(batch_size, count)
        self.seed = seed
        self._permutation = lru_cache(maxsize=1)(self._draw_permutation)

    @property
    def per_pass(self) -> int:
        """Batches in one pass over all items."""
        return -(-self.count // self.batch_size)

    def __getitem__(self, step: int) -> Int[Tensor, " batch"]:
        """Return the indices of the items of a step."""
        number, position = divmod(step, self.per_pass)
        start = position * self.batch_size
        return self._permutation(number)[start : start + self.batch_size]

    def _draw_permutation(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed * MIX + number) % 2**63)
        return torch.randperm(self.count, generator=generator)
