"""Gradients that are much larger than those of the steps before are scaled down."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from partedvae.training.config.overrides import apply_overrides
from partedvae.training.data.dataset import first_labelled
from partedvae.training.distributed import SINGLE_PROCESS
from partedvae.training.engine.clipping import GradientClipper
from partedvae.training.engine.device import prepare
from partedvae.training.engine.trainer import Trainer
from partedvae.training.objectives.method import MethodOutput
from partedvae.training.objectives.partedvae import PartedVAEMethod
from tests.training.toys import tiny_config, toy_dataset


def parameters(*gradients: list[float]) -> list[nn.Parameter]:
    """Return parameters with these gradients, and one without."""
    made = [nn.Parameter(torch.zeros(len(gradient))) for gradient in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    return [*made, nn.Parameter(torch.zeros(2))]


def gradients(made: list[nn.Parameter]) -> list[list[float]]:
    """Return the gradients of parameters that have one."""
    return [parameter.grad.tolist() for parameter in made if parameter.grad is not None]


def test_a_spike_is_scaled_to_a_multiple_of_the_average_and_hardly_raises_it() -> None:
    clipper = GradientClipper(2.0, torch.device("cpu"))
    for _ in range(3):
        usual = parameters([3.0], [0.0, 4.0])
        clipper.clip(usual)
        assert gradients(usual) == [[3.0], [0.0, 4.0]]
    assert clipper.average.item() == pytest.approx(5.0)
    spike = parameters([300.0], [0.0, 400.0])
    clipper.clip(spike)
    assert gradients(spike)[0] == pytest.approx([6.0], rel=1e-4)
    assert gradients(spike)[1] == pytest.approx([0.0, 8.0], rel=1e-4)
    assert clipper.average.item() == pytest.approx(5.5)


def test_the_average_follows_norms_that_fall() -> None:
    clipper = GradientClipper(2.0, torch.device("cpu"))
    clipper.clip(parameters([1e6]))
    for _ in range(100):
        clipper.clip(parameters([1.0]))
    average = clipper.average.item()
    assert average < 40
    later = parameters([1e6])
    clipper.clip(later)
    assert gradients(later) == [[pytest.approx(2 * average, rel=1e-4)]]


@pytest.mark.parametrize("unusable", [0.0, math.inf, math.nan])
def test_the_average_outlives_a_gradient_without_a_norm(unusable: float) -> None:
    clipper = GradientClipper(2.0, torch.device("cpu"))
    clipper.clip(parameters([unusable]))
    assert clipper.average.item() == math.inf
    clipper.clip(parameters([4.0]))
    clipper.clip(parameters([unusable]))
    assert clipper.average.item() == 4.0


def test_a_restored_clipper_has_the_average_of_the_stored_one() -> None:
    clipper, restored = (GradientClipper(2.0, torch.device("cpu")) for _ in range(2))
    clipper.clip(parameters([7.0]))
    restored.load_state_dict(clipper.state_dict())
    assert restored.average.item() == 7.0


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_one_step_with_a_huge_loss_fills_the_momentum_only_without_clipping(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = apply_overrides(tiny_config(), [f"optimiser.clip_factor={factor}"])
    train = toy_dataset().train
    prepare(0)
    trainer = Trainer(config, train, first_labelled(train, config.labels), SINGLE_PROCESS)
    for _ in range(20):
        trainer.train_step()
    moment = trainer.optimiser.state[next(iter(trainer.model.network_parameters()))]["exp_avg"]
    before = moment.norm().item()
    assert isinstance(trainer.method, PartedVAEMethod)
    usual = trainer.method.losses

    def huge(*arguments: Any) -> MethodOutput:
        output = usual(*arguments)
        return output._replace(loss=1e4 * output.loss)

    monkeypatch.setattr(trainer.method, "losses", huge)
    trainer.train_step()
    assert (moment.norm().item() < 10 * before) == (factor > 0)


@pytest.mark.parametrize("factor", ["1", "0.5", "-1"])
def test_a_factor_that_would_shrink_every_gradient_is_refused(factor: str) -> None:
    with pytest.raises(ValueError, match=r"optimiser.clip_factor .*0 or above 1"):
        apply_overrides(tiny_config(), [f"optimiser.clip_factor={factor}"])
