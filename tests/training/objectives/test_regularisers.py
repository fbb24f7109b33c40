"""Leakage against analytic values, and the parameters that get gradients from the exchange loss."""

import math

import pytest
import torch

from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.regularisers import FEWEST_IMAGES, exchange_loss, leakage
from tests.training.toys import tiny_config


def test_leakage_is_the_information_of_two_gaussians() -> None:
    """Two classes at -1 and 1 with variance 0.25 each: v = 1.25, v_i = 0.25, hence 0.5 log 5."""
    mean = torch.tensor([-1.0, 1.0]).repeat(2048).unsqueeze(1)
    z = Gaussian(mean, torch.full_like(mean, math.log(0.25)))
    probs = torch.eye(2).repeat(2048, 1)
    assert leakage(z, probs).item() == pytest.approx(0.5 * math.log(5), abs=1e-3)
    assert leakage(Gaussian(torch.zeros_like(mean), z.logvar), probs).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("spread", "own"), [(1.0, 0.02), (0.7, 0.7), (0.01, 1.0)])
def test_leakage_of_a_z_without_class_information_is_zero_even_for_few_images(spread: float, own: float) -> None:
    """Without the correction it would be 0.04 nats for each variable of five classes."""
    generator = torch.Generator().manual_seed(0)
    shares, found = torch.tensor([0.3, 0.25, 0.2, 0.13, 0.12]), []
    for _ in range(500):
        mean = spread * torch.randn(64, 1, generator=generator)
        classes = torch.multinomial(shares, 64, replacement=True, generator=generator)
        z = Gaussian(mean, torch.full_like(mean, 2 * math.log(own)))
        found.append(leakage(z, torch.eye(5)[classes]).item())
    assert sum(found) / len(found) == pytest.approx(0, abs=0.004)


def test_leakage_is_not_rounded_with_mixed_precision() -> None:
    """The variance within a class is a small difference of two products."""
    mean = torch.tensor([[2.9], [3.1]]).repeat(64, 1)
    z, probs = Gaussian(mean, torch.full_like(mean, -6.0)), torch.eye(2).repeat(64, 1)
    expected = leakage(z, probs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(leakage(z, probs), expected)


def test_leakage_of_a_batch_of_one_image_is_zero() -> None:
    """The last batch of a pass may have one image."""
    mean = torch.ones(1, 2, requires_grad=True)
    loss = leakage(Gaussian(mean, torch.zeros(1, 2)), torch.tensor([[0.9, 0.1]]))
    loss.backward()
    assert loss.item() == 0
    assert mean.grad is not None
    assert torch.isfinite(mean.grad).all()


def test_leakage_leaves_out_classes_with_too_few_images() -> None:
    """The two images of the second class are far from the others and near each other: their leakage would be large."""
    mean = torch.cat([torch.linspace(-1, 1, 10), torch.tensor([5.0, 5.1])]).unsqueeze(1)
    z = Gaussian(mean, torch.full_like(mean, -6.0))
    assert FEWEST_IMAGES > 2
    first_alone = torch.eye(2)[[0] * 10 + [1] * 2] * torch.tensor([1.0, 0.0])
    both = leakage(z, torch.eye(2)[[0] * 10 + [1] * 2])
    assert both.item() == pytest.approx(leakage(z, first_alone).item(), rel=1e-5)
    assert both.item() > 0.5


def test_leakage_moves_z_and_leaves_the_class_alone() -> None:
    mean = torch.randn(12, 3, requires_grad=True)
    logits = torch.randn(12, 2, requires_grad=True)
    leakage(Gaussian(mean, torch.zeros(12, 3)), torch.softmax(logits, dim=1)).backward()
    assert mean.grad is not None
    assert mean.grad.abs().sum() > 0
    assert logits.grad is None


def test_exchange_trains_the_decoder_and_the_posterior_of_u() -> None:
    torch.manual_seed(0)
    config = tiny_config().model
    model = PartedVAE(config)
    pixels = torch.rand(16, config.image_size[2], *config.network_size)
    loss = exchange_loss(model, model.encode(pixels, slope=1.0, temperature=0.67))
    loss.backward()
    untouched = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    prior = {name for name, _ in model.named_parameters() if ".prior_" in name}
    assert untouched == prior | {"z_head.weight", "z_head.bias"}
    # An untrained classifier is uniform over four corners and two shades.
    assert loss.item() == pytest.approx(math.log(4) + math.log(2), rel=0.3)
