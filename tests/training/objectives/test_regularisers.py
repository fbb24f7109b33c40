"""Leakage against analytic values, and the parameters that get gradients from the exchange loss."""

import math

import pytest
import torch
from torch import Tensor

from partedvae.training.distributed import ShardedNoise
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.regularisers import (
    FEWEST_IMAGES,
    Exchanged,
    class_error,
    cycle_error,
    exchange,
    leakage,
)
from tests.training.toys import tiny_config


class ZeroNoise(ShardedNoise):
    """Noise that is always zero."""

    def normal(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like)

    def uniform(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like)


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


def exchanged_of(model: PartedVAE) -> Exchanged:
    pixels = torch.rand(16, model.config.image_size[2], *model.config.network_size)
    return exchange(model, model.encode(pixels, slope=1.0, temperature=0.67))


def test_exchange_decodes_each_z_twice_with_own_and_drawn_u() -> None:
    """Without noise and with a decoder that shows its input, half of the z are those of images and half of p(z)."""
    torch.manual_seed(0)
    config = tiny_config().model
    model = PartedVAE(config)
    posterior = model.encode(torch.rand(16, 1, 16, 16), slope=1.0, temperature=0.67)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    model.decoder.forward = lambda u, z: seen.append((u, z)) or torch.zeros(len(z), 1, 16, 16)  # type: ignore[func-returns-value, method-assign]  # records its input
    exchanged = exchange(model, posterior, ZeroNoise())
    ((u, z),) = seen
    # Half of 16 images: four z, each decoded twice.
    assert len(exchanged.pixels) == len(z) == 8
    torch.testing.assert_close(z[:4], z[4:])
    torch.testing.assert_close(z[:2], posterior.z.mean[:2])
    torch.testing.assert_close(z[2:4], torch.zeros(2, 3))
    # A uniform number of 0 selects the first factor and its first class; the second factor keeps its u, or is drawn.
    modes = [factor.prior_modes().mean[0] for factor in model.class_factors()]
    torch.testing.assert_close(u[:, :2], modes[0].expand(8, -1))
    torch.testing.assert_close(u[[0, 1], 2:], posterior.factors[1].u.mean[:2])
    torch.testing.assert_close(u[[2, 3], 2:], modes[1].expand(2, -1))
    assert exchanged.classes[0].tolist() == [0] * 8
    assert exchanged.classes[1][:2].tolist() == posterior.factors[1].class_weights[:2].argmax(1).tolist()


def test_the_class_error_trains_the_decoder_and_the_posterior_of_u() -> None:
    torch.manual_seed(0)
    model = PartedVAE(tiny_config().model)
    loss = class_error(model, exchanged_of(model))
    loss.backward()
    untouched = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    prior = {name for name, _ in model.named_parameters() if ".prior_" in name}
    assert untouched == prior | {"z_head.weight", "z_head.bias"}
    # An untrained classifier is uniform over four corners and two shades.
    assert loss.item() == pytest.approx(math.log(4) + math.log(2), rel=0.3)


def test_the_cycle_error_trains_trunk_and_z_head_alone() -> None:
    torch.manual_seed(0)
    model = PartedVAE(tiny_config().model)
    cycle_error(model, exchanged_of(model)).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    encoder = {name for name, _ in model.named_parameters() if name.startswith(("trunk.", "z_head."))}
    assert trained == encoder


def test_the_cycle_error_is_the_distance_in_units_of_the_posterior() -> None:
    """Means of z that differ by 2 in each of three dimensions, with variances 4: 3 x 2^2 / (4 + 4)."""
    model = PartedVAE(tiny_config().model)
    with torch.no_grad():
        model.z_head.weight.zero_()
        model.z_head.weight[:3, 0] = 1.0
        model.z_head.bias[3:] = math.log(4.0)
    model.trunk.forward = lambda pixels: torch.eye(32)[[1, 0]] * 2.0  # type: ignore[method-assign]  # h of two images
    exchanged = Exchanged(torch.zeros(2, 1, 16, 16), (torch.zeros(2).long(),) * 2)
    assert cycle_error(model, exchanged).item() == pytest.approx(1.5)


def test_exchange_draws_its_random_numbers_in_full_precision() -> None:
    """A uniform number in bfloat16 has 8 bits, which distorts the shares of the classes."""
    seen: list[torch.dtype] = []

    class Recorded(ShardedNoise):
        def uniform(self, like: Tensor) -> Tensor:
            seen.append(like.dtype)
            return super().uniform(like)

    model = PartedVAE(tiny_config().model)
    with torch.autocast("cpu", torch.bfloat16):
        exchange(model, model.encode(torch.rand(16, 1, 16, 16), slope=1.0, temperature=0.67), Recorded())
    assert set(seen) == {torch.float32}
