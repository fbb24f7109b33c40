"""The adversary finds classes in z, and its estimate moves z alone."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch

from partedvae.training.distributed import SINGLE_PROCESS
from partedvae.training.engine.trainer import Trainer
from partedvae.training.model.distributions import Gaussian
from partedvae.training.objectives.adversary import FLOOR, MEMORY, ClassAdversary
from tests.training.toys import TOY_MODEL, tiny_config, toy_split

CPU = torch.device("cpu")


def z_of(corner: torch.Tensor, distance: float) -> Gaussian:
    """Return q(z | x) with the corner in the first dimension."""
    mean = torch.randn(len(corner), 3)
    mean[:, 0] = distance * corner
    return Gaussian(mean, torch.full_like(mean, -4.0))


def trained(distance: float, updates: int = 60) -> tuple[ClassAdversary, list[float]]:
    torch.manual_seed(0)
    adversary, found = ClassAdversary(TOY_MODEL.z_dim, (4, 2), SINGLE_PROCESS, CPU), []
    for _ in range(updates):
        corner = torch.randint(4, (256,))
        shade = torch.full((256, 2), 0.5)
        found.append(adversary.information(z_of(corner, distance), [torch.eye(4)[corner], shade]).item())
        adversary.update()
    return adversary, found


def test_it_finds_all_information_of_a_z_that_is_the_class() -> None:
    """I(z; c) is log 4 for the corner; the shade of this z is uncertain, and cannot be found."""
    _, found = trained(distance=3.0)
    assert found[0] < 0.3
    assert found[-1] == pytest.approx(math.log(4), abs=0.05)


def test_it_finds_nothing_in_a_z_without_the_class_and_its_estimate_has_a_floor() -> None:
    _, found = trained(distance=0.0)
    assert abs(sum(found[-10:]) / 10) < 0.05
    assert min(found) >= 2 * FLOOR - 1e-6


def test_its_estimate_moves_z_and_leaves_classes_and_network_alone() -> None:
    adversary, _ = trained(distance=3.0)
    corner = torch.randint(4, (64,))
    z = z_of(corner, 3.0)
    z.mean.requires_grad_()
    z.logvar.requires_grad_()
    probs = torch.eye(4)[corner].requires_grad_()
    adversary.optimiser.zero_grad()
    adversary.information(z, [probs, torch.full((64, 2), 0.5)]).backward()
    assert z.mean.grad is not None
    assert z.mean.grad.abs().sum() > 0
    assert z.logvar.grad is not None
    # Every second image shows its mean, so that its variance has no gradient.
    assert (z.logvar.grad[::2] == 0).all()
    assert probs.grad is None
    assert all(parameter.grad is None for parameter in adversary.network.parameters())


def test_a_run_with_an_adversary_resumes_exactly() -> None:
    base = tiny_config()
    config = dataclasses.replace(base, objective=dataclasses.replace(base.objective, gamma_adversary=5.0))
    torch.manual_seed(0)
    trainer = Trainer(config, toy_split(320, 1), torch.arange(40), SINGLE_PROCESS)
    for _ in range(MEMORY + 2):
        trainer.train_step()
    state = copy.deepcopy(trainer.state_dict())
    expected = [trainer.train_step()["loss"].item() for _ in range(3)]
    other = Trainer(config, toy_split(320, 1), torch.arange(40), SINGLE_PROCESS)
    other.load_state_dict(state)
    assert [other.train_step()["loss"].item() for _ in range(3)] == expected
