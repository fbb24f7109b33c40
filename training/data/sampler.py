"""The images of each step: a pure function of seed and step, so that a resumed run continues exactly."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

MIX = 0x9E3779B97F4A7C15
"""An odd constant that spreads (seed, pass) over the 64-bit seeds of the generator."""


class Batches:
    """Endless shuffled batches over `count` items, by step number.

    Each pass is a new permutation. The last batch of a pass may be smaller, or is left out; with fewer items than the
    batch size, each batch contains all of them.
    """

    def __init__(self, count: int, batch_size: int, seed: int, *, full: bool = False) -> None:
        """Create the batches of items 0 to count - 1.

        Args:
            count: number of items.
            batch_size: items per batch.
            seed: seed of the permutations.
            full: whether every batch has the full size; a pass then leaves out the remaining items.
        """
        self.count = count
        self.batch_size = min(batch_size, count)
        self.seed = seed
        self.full = full
        self._permutation = lru_cache(maxsize=1)(self._draw_permutation)

    @property
    def per_pass(self) -> int:
        """Batches per pass over all items."""
        return self.count // self.batch_size if self.full else -(-self.count // self.batch_size)

    def items_before(self, step: int) -> int:
        """Return the number of items in the batches of all earlier steps; items of several passes count as often."""
        passes, position = divmod(step, self.per_pass)
        per_pass = self.per_pass * self.batch_size if self.full else self.count
        return passes * per_pass + position * self.batch_size

    def __getitem__(self, step: int) -> Int[Tensor, " batch"]:
        """Return the indices of the items of a step."""
        number, position = divmod(step, self.per_pass)
        start = position * self.batch_size
        return self._permutation(number)[start : start + self.batch_size]

    def _draw_permutation(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed * MIX + number) % 2**63)
        return torch.randperm(self.count, generator=generator)


class JoinedBatches:
    """Endless batches of items of two sets; the indices of the second set follow those of the first."""

    def __init__(self, first: Batches, second: Batches) -> None:
        """Join the batches of two sets."""
        self.first = first
        self.second = second

    def __getitem__(self, step: int) -> Int[Tensor, " batch"]:
        """Return the indices of the items of a step."""
        return torch.cat([self.first[step], self.first.count + self.second[step]])
