"""Two processes compute what one does on the same global batch, and do not write the same files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from partedvae.training.distributed import SINGLE_PROCESS, ShardedNoise, launch
from tests.training.distributed import parallel_steps

pytestmark = pytest.mark.slow

STEPS_PROGRAM = Path(__file__).parent / "parallel_steps.py"
RUN_PROGRAM = Path(__file__).parent / "parallel_run.py"
ROOT = Path(__file__).parents[3]


def torchrun(processes: int, program: Path, *arguments: object) -> None:
    """Run a program on that many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*command, str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def steps(output: Path, method: str, processes: int, train_images: int = 320) -> dict[str, Any]:
    """Train a few steps on that many processes, a single one being this one, and return what the first saved."""
    if processes == 1:
        parallel_steps.main(output, method, train_images)
    else:
        torchrun(processes, STEPS_PROGRAM, output, method, train_images)
    saved: dict[str, Any] = torch.load(output, weights_only=True)
    assert saved["world"] == processes
    return saved


DRAWN_WITHIN_A_RANK = {
    "partedvae": set[str](),
    "separated": {"exchange", "cycle", "adversary", "loss"},
    "factor-vae": {"total_correlation", "discriminator", "loss"},
}
"""Losses of images that each rank chooses or shuffles among its own: another draw, no other method."""


@pytest.mark.parametrize(
    "method",
    ["separated", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("partedvae", "factor-vae"))],
)
def test_two_processes_train_as_one(tmp_path: Path, method: str) -> None:
    one = steps(tmp_path / "one.pt", method, 1)
    two = steps(tmp_path / "two.pt", method, 2)
    for k, name in enumerate(one["names"]):
        tolerance = 0.1 if name in DRAWN_WITHIN_A_RANK[method] else 2e-3
        torch.testing.assert_close(two["losses"][:, k], one["losses"][:, k], rtol=tolerance, atol=tolerance)
    if method == "partedvae":
        torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "job",
    [
        {"SLURM_NTASKS": "4"},
        {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
        {"LSB_JOBID": "7", "LSB_DJOB_NUMPROC": "4", "LSB_DJOB_RANKFILE": "none", "JSM_NAMESPACE_SIZE": "4"},
        {"KUBERNETES_PORT": "tcp://10.0.0.1:443", "MASTER_ADDR": "10.0.0.2", "MASTER_PORT": "1", "WORLD_SIZE": "1"},
    ],
    ids=["batch script", "one task of a step", "LSF", "Kubeflow"],
)
def test_a_command_in_a_job_of_several_tasks_trains_alone(job: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ({"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train"} | job).items():
        monkeypatch.setenv(name, value)
    context = launch("cpu", "32-true")
    assert (context.rank, context.world_size, context.device.type) == (0, 1, "cpu")


@pytest.mark.parametrize(
    ("name", "launcher"),
    [("SLURM_STEP_NUM_TASKS", "srun"), ("OMPI_COMM_WORLD_SIZE", "mpirun"), ("WORLD_SIZE", "another launcher")],
)
def test_several_processes_of_another_launcher_are_refused(
    name: str, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would write into the same run."""
    monkeypatch.setenv(name, "4")
    with pytest.raises(ValueError, match=f"{name}=4: {launcher}.* has started several processes.*torchrun"):
        launch("cpu", "32-true")


def test_only_the_first_of_two_processes_draws_a_data_set(tmp_path: Path) -> None:
    torchrun(2, RUN_PROGRAM, tmp_path)
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["0 drew", "0 found", "1 found"]
    assert (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.exhaustive
def test_a_last_batch_of_fewer_images_than_processes_is_trained_on(tmp_path: Path) -> None:
    """Three steps of 32 images, then one of a single image, which cannot be divided."""
    one, two = (steps(tmp_path / f"{count}.pt", "partedvae", count, train_images=97) for count in (1, 2))
    assert torch.isfinite(two["weights"]).all()
    # The last image has other noise on each rank, so that only what does not depend on it is the same.
    k = one["names"].index("supervised")
    torch.testing.assert_close(two["losses"][:, k], one["losses"][:, k], rtol=2e-3, atol=2e-3)
    k = one["names"].index("entropy")
    torch.testing.assert_close(two["losses"][:4, k], one["losses"][:4, k], rtol=2e-3, atol=2e-3)


def test_ranks_draw_the_rows_of_one_draw() -> None:
    for kind in ("normal", "uniform", "gumbel"):
        torch.manual_seed(3)
        whole = getattr(ShardedNoise(), kind)(torch.empty(6, 2))
        rows = []
        for rank in range(3):
            torch.manual_seed(3)
            rows.append(getattr(ShardedNoise(rank, 3), kind)(torch.empty(2, 2)))
        assert torch.equal(torch.cat(rows), whole)


def test_the_collective_operations_of_a_single_process_return_their_arguments() -> None:
    for context in (SINGLE_PROCESS, launch("cpu", "32-true")):
        value, indices = torch.rand(3), torch.arange(5)
        assert context.is_main_process
        assert context.mean(value) is value
        assert (context.any(True), context.any(False)) == (True, False)
        assert torch.equal(context.shard(indices), indices)
        parameter = torch.nn.Parameter(torch.ones(2))
        parameter.grad = torch.full((2,), 3.0)
        context.average_gradients([parameter])
        assert parameter.grad.tolist() == [3.0, 3.0]
        with context.main_process_first(), context.autocast():
            assert (parameter + 1).dtype == torch.float32
