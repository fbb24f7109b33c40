"""Data-parallel training: several processes that together do exactly what one would do on the whole batch.

Lightning Fabric joins the processes that torchrun started, names the device and the precision, and carries the tensors.
What Fabric's own wrapper would do is done here by hand, because the objective is not a mean over images: |C - KL| and
KL(q(c) || p(c)) are functions of the whole batch's means (section 4.4), which go over all ranks, with gradients.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Int
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Noise:
    """Random numbers of one rank: its rows of those that a single process would draw for the whole batch.

    All ranks have the same random state and draw the same numbers, so that a rank can neither repeat nor lack any.
    """

    rank: int = 0
    world: int = 1

    def normal(self, like: Tensor) -> Tensor:
        """Draw from N(0, 1), in the shape of a tensor whose rows are this rank's."""
        return self._own(torch.randn(self._whole(like), device=like.device, dtype=like.dtype), like)

    def uniform(self, like: Tensor) -> Tensor:
        """Draw from U(0, 1)."""
        return self._own(torch.rand(self._whole(like), device=like.device, dtype=like.dtype), like)

    def gumbel(self, like: Tensor) -> Tensor:
        """Draw from the standard Gumbel distribution."""
        exponential = torch.empty(self._whole(like), device=like.device, dtype=like.dtype).exponential_()
        return self._own(-exponential.log(), like)

    def _whole(self, like: Tensor) -> tuple[int, ...]:
        return (self.world * like.shape[0], *like.shape[1:])

    def _own(self, whole: Tensor, like: Tensor) -> Tensor:
        return whole[self.rank * len(like) : (self.rank + 1) * len(like)]


class Ranks:
    """The processes that train together, as one of them sees them."""

    def __init__(self, fabric: Fabric) -> None:
        """Take a launched Fabric."""
        self.fabric = fabric
        self.world = fabric.world_size
        self.noise = Noise(fabric.global_rank, self.world)

    @property
    def is_first(self) -> bool:
        """Whether this process reports and writes files."""
        return self.noise.rank == 0

    def first_goes_ahead(self) -> AbstractContextManager[None]:
        """Return a block that each machine's first process goes through alone; the machine's others follow together.

        For data that is fetched or drawn where it is missing: the first does so, and the others find it.
        """
        # By machine, since the machines' disks may be their own. It waits for as long as it takes, unlike NCCL.
        return self.fabric.rank_zero_first(local=True)

    def share(self, indices: Int[Tensor, " batch"]) -> Int[Tensor, " share"]:
        """Return this rank's part of a batch; all parts have one size, so up to `world - 1` images are left out.

        Of fewer images than ranks, as the last batch of a pass may have, every rank takes all: their mean over ranks is
        the batch's, as that of nothing would not be, and a pass has as many steps as one process would make.
        """
        size = len(indices) // self.world
        if not size:
            return indices
        return indices[self.noise.rank * size : (self.noise.rank + 1) * size]

    def mean(self, value: Tensor) -> Tensor:
        """Average a tensor over ranks, with gradients: after `average_gradients` they are those of the whole batch."""
        if self.world == 1:
            return value
        gathered = self.fabric.all_gather(value, sync_grads=True)
        assert isinstance(gathered, Tensor)
        return gathered.mean(dim=0)

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set on some rank: all ranks get the same answer."""
        if self.world == 1:
            return flag
        total = self.fabric.all_reduce(torch.tensor(float(flag), device=self.fabric.device), reduce_op="sum")
        assert isinstance(total, Tensor)
        return total.item() > 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients over ranks, in one message."""
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        averaged = self.fabric.all_reduce(flat, reduce_op="mean")
        assert isinstance(averaged, Tensor)
        for gradient, part in zip(gradients, averaged.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


ALONE = Noise()
"""The noise of a process that trains alone."""


def launch(device: str, precision: str) -> Fabric:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: "cpu" or "cuda".
        precision: "32-true", or "bf16-mixed" on GPUs that have it.

    Raises:
        ValueError: mixed precision on the CPU.
    """
    if device == "cpu" and precision != "32-true":
        raise ValueError(f"--precision {precision} is for GPUs; leave it out on the CPU, where it would only be slower")
    # torchrun's own variables; Fabric reads ranks from them, but not how many processes there are.
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // here
    strategy = "ddp" if here * nodes > 1 else "auto"
    # Fabric wants a literal of its own; config.py has checked the name.
    fabric = Fabric(accelerator=device, devices=here, num_nodes=nodes, strategy=strategy, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    if distributed.is_initialized():
        # Left to itself at the interpreter's end, gloo's thread may be torn down while it runs: the process aborts.
        atexit.register(distributed.destroy_process_group)
    return fabric
