"""Data-parallel training: several processes compute what one process would compute on the whole batch.

Lightning Fabric connects the processes started by torchrun, selects device and precision, and communicates tensors.
Fabric's own wrapper of the model is not used, because the objective is not a mean over images: |C - KL| and
KL(q(c) || p(c)) depend on means over the whole batch (section 4.4), which are taken over all ranks, with gradients.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class ShardedNoise:
    """Random numbers of one rank: its rows of the numbers that a single process would draw for the whole batch.

    All ranks have the same random state and draw the same numbers, so that no rank repeats those of another.
    """

    rank: int = 0
    """Index of this process."""
    world_size: int = 1
    """Number of processes."""

    def normal(self, like: Tensor) -> Tensor:
        """Draw from N(0, 1), in the shape of `like`, whose rows are those of this rank."""
        return self._shard(torch.randn(self._whole(like), device=like.device, dtype=like.dtype), like)

    def uniform(self, like: Tensor) -> Tensor:
        """Draw from U(0, 1), in the shape of `like`."""
        return self._shard(torch.rand(self._whole(like), device=like.device, dtype=like.dtype), like)

    def gumbel(self, like: Tensor) -> Tensor:
        """Draw from the standard Gumbel distribution, in the shape of `like`."""
        exponential = torch.empty(self._whole(like), device=like.device, dtype=like.dtype).exponential_()
        return self._shard(-exponential.log(), like)

    def _whole(self, like: Tensor) -> tuple[int, ...]:
        return (self.world_size * like.shape[0], *like.shape[1:])

    def _shard(self, whole: Tensor, like: Tensor) -> Tensor:
        return whole[self.rank * len(like) : (self.rank + 1) * len(like)]


class DistributedContext:
    """Rank, device and collective operations of one of the processes that train together.

    Without a Fabric it is that of a single process on the CPU, and every collective operation returns its argument.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        """Create the context.

        Args:
            fabric: a launched Fabric; None for a single process on the CPU.
        """
        self._fabric = fabric
        self.rank = 0 if fabric is None else fabric.global_rank
        self.world_size = 1 if fabric is None else fabric.world_size
        self.device = torch.device("cpu") if fabric is None else fabric.device
        self.noise = ShardedNoise(self.rank, self.world_size)

    @property
    def is_main_process(self) -> bool:
        """Whether this process reports progress and writes files."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """Name of the device, such as "cpu" or "NVIDIA H200", with the number of processes if there are several."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return name if self.world_size == 1 else f"{self.world_size} x {name}"

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context manager for forward passes in the chosen precision."""
        return nullcontext() if self._fabric is None else self._fabric.autocast()

    def main_process_first(self) -> AbstractContextManager[None]:
        """Return a context manager that the first process of each machine runs before the others of that machine.

        For data that is downloaded or drawn when it is missing: the first process does so, and the others read it.
        """
        # Per machine, as machines may have disks of their own. Unlike an NCCL barrier, it waits without a timeout.
        return nullcontext() if self._fabric is None else self._fabric.rank_zero_first(local=True)

    def shard(self, indices: Int[Tensor, " batch"]) -> Int[Tensor, " shard"]:
        """Return this rank's part of a batch; all parts have one size, so up to `world_size - 1` images are left out.

        With fewer images than ranks, as in the last batch of a pass, every rank gets all of them: their mean over ranks
        is that of the batch, which the mean of an empty part would not be, and the number of steps per pass does not
        depend on the number of ranks.
        """
        size = len(indices) // self.world_size
        if not size:
            return indices
        return indices[self.rank * size : (self.rank + 1) * size]

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over ranks, with gradients; after `average_gradients` they are those of the whole batch."""
        if self._fabric is None or self.world_size == 1:
            return value
        gathered = self._fabric.all_gather(value, sync_grads=True)
        assert isinstance(gathered, Tensor)
        return gathered.mean(dim=0)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on at least one rank; the result is the same on all ranks."""
        if self._fabric is None or self.world_size == 1:
            return flag
        total = self._fabric.all_reduce(torch.tensor(float(flag), device=self.device), reduce_op="sum")
        assert isinstance(total, Tensor)
        return total.item() > 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their means over ranks, in one collective operation."""
        if self._fabric is None or self.world_size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        averaged = self._fabric.all_reduce(flat, reduce_op="mean")
        assert isinstance(averaged, Tensor)
        for gradient, part in zip(gradients, averaged.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


TASK_COUNTS = {
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpiexec",
    "WORLD_SIZE": "another launcher than torchrun",
}
"""Launchers by the variable with the number of processes that they have started. SLURM_NTASKS is no such variable: it
describes the job, also in a batch script, which is one process."""


def _require_alone() -> None:
    """Check that no launcher has started several processes, which would all write the same run.

    Raises:
        ValueError: one has.
    """
    for name, launcher in TASK_COUNTS.items():
        count = os.environ.get(name, "1")
        if count not in ("", "0", "1"):
            raise ValueError(
                f"{name}={count}: {launcher} has started several processes, which do not train together; start one per "
                f"machine, and in it 'torchrun --nproc-per-node N -m partedvae train ...', or unset {name}"
            )


SINGLE_PROCESS = DistributedContext()
"""The context of a process that trains alone, on the CPU."""


def launch(device: str, precision: str) -> DistributedContext:
    """Connect the processes started by torchrun, if any, and return the context of this one.

    Args:
        device: "cpu" or "cuda".
        precision: "32-true", or "bf16-mixed".

    Raises:
        ValueError: several processes were started, but not by torchrun.
    """
    # Imported here, as it takes longer than PyTorch to import, and only training needs it.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    # Its messages are about its defaults and the ranks; warnings remain.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # Chosen here, since Fabric would also follow the variables of SLURM, LSF, Kubeflow and MPI: those describe a job,
    # in which this command may be a single process.
    under_torchrun = TorchElasticEnvironment.detect()
    if not under_torchrun:
        _require_alone()
    # Fabric reads the ranks, but not the number of processes.
    processes = int(os.environ["LOCAL_WORLD_SIZE"]) if under_torchrun else 1
    nodes = int(os.environ["WORLD_SIZE"]) // processes if under_torchrun else 1
    fabric = Fabric(
        accelerator=device,
        devices=processes,
        num_nodes=nodes,
        strategy="ddp" if processes * nodes > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]  # a Literal, whose value TrainConfig has checked
        plugins=[TorchElasticEnvironment() if under_torchrun else LightningEnvironment()],
    )
    fabric.launch()
    if distributed.is_initialized():
        # Without this, gloo's thread may be destroyed while it runs at interpreter exit, and the process aborts.
        atexit.register(distributed.destroy_process_group)
    return DistributedContext(fabric)
