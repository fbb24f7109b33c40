"""Training and evaluation on a GPU: what they record and repeat. Skipped without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from partedvae.training.cli.evaluate import evaluate
from partedvae.training.cli.train import train
from partedvae.training.data.dataset import first_labelled
from partedvae.training.distributed import launch
from partedvae.training.engine.device import prepare
from partedvae.training.engine.trainer import Trainer
from partedvae.training.runs.directory import RunDirectory
from tests.training.toys import tiny_config, toy_dataset

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SMALL = (
    *("--epochs", "1", "--labels", "64", "--no-measure"),
    *("--set", "train_images=640", "--set", "supervision.warm_start_steps=5"),
)


def test_a_run_trains_and_is_evaluated(tmp_path: Path) -> None:
    """`auto` selects the GPU and its bfloat16, and the CPU measures the same."""
    run, runner = tmp_path / "run", CliRunner()
    result = runner.invoke(train, ["mnist", *SMALL, "--output", str(run)])
    assert result.exit_code == 0, result.output
    stored = RunDirectory(run)
    assert stored.load_config().precision == "bf16-mixed"
    assert stored.devices() == [torch.cuda.get_device_name()]
    reports = {}
    for device in ("cuda", "cpu"):
        result = runner.invoke(evaluate, [str(run), "--device", device, "--json"])
        assert result.exit_code == 0, result.output
        reports[device] = json.loads(result.stdout)
    gpu, cpu = reports["cuda"], reports["cpu"]
    assert gpu["factors"]["digit"]["accuracy"] == pytest.approx(cpu["factors"]["digit"]["accuracy"], abs=0.01)
    assert gpu["reconstruction"] == pytest.approx(cpu["reconstruction"], rel=0.01)


def test_the_same_seed_trains_the_same_weights() -> None:
    def weights() -> torch.Tensor:
        config, train_split = tiny_config(), toy_dataset().train
        prepare(0)
        trainer = Trainer(config, train_split, first_labelled(train_split, config.labels), launch("cuda", "32-true"))
        for _ in range(20):
            trainer.train_step()
        return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])

    assert torch.equal(weights(), weights())
