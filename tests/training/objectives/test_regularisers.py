"""Exchanged images, and the parameters that get gradients from the class error and the cycle error."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from partedvae.training.config.schedules import schedule_at
from partedvae.training.data.dataset import UNLABELLED
from partedvae.training.data.visibility import FEWEST_LABELS, VisibilityTables, visibility_tables
from partedvae.training.distributed import SINGLE_PROCESS, ShardedNoise
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.partedvae import PartedVAEMethod
from partedvae.training.objectives.regularisers import (
    CONTRAST_TEMPERATURE,
    Exchanged,
    class_error,
    contrast_loss,
    cycle_error,
    exchange,
)
from tests.training.toys import tiny_config


class ZeroNoise(ShardedNoise):
    """Noise that is always zero."""

    def normal(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like)

    def uniform(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like)


ALL_VISIBLE = visibility_tables(torch.zeros(1, 2, dtype=torch.int64), (4, 2))
"""Both factors of the tiny configuration can be seen with every class of the other."""


def exchanged_of(model: PartedVAE, visible: VisibilityTables = ALL_VISIBLE) -> Exchanged:
    pixels = torch.rand(16, model.config.image_size[2], *model.config.network_size)
    return exchange(model, model.encode(pixels, slope=1.0, temperature=0.67), visible)


def test_exchange_decodes_each_z_with_the_u_of_other_images() -> None:
    """Without noise and with a decoder that shows its input, half of the z are those of images and half of p(z)."""
    torch.manual_seed(0)
    config = tiny_config().model
    model = PartedVAE(config)
    posterior = model.encode(torch.rand(16, 1, 16, 16), slope=1.0, temperature=0.67)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    model.decoder.forward = lambda u, z: seen.append((u, z)) or torch.zeros(len(z), 1, 16, 16)  # type: ignore[func-returns-value, method-assign]  # records its input
    exchanged = exchange(model, posterior, ALL_VISIBLE, ZeroNoise())
    ((u, z),) = seen
    # Half of 16 images: four z, each decoded twice.
    assert len(exchanged.pixels) == len(z) == 8
    torch.testing.assert_close(z[:4], z[4:])
    torch.testing.assert_close(z[:2], posterior.z.mean[:2])
    torch.testing.assert_close(z[2:4], torch.zeros(2, 3))
    # With the u of one other image where z is of an image, and the modes of the classes of one image per factor where
    # z is of p(z).
    for k, (first, factor) in enumerate(zip((0, 2), model.class_factors(), strict=True)):
        classes = posterior.factors[k].class_weights.argmax(dim=1)
        drawn = torch.tensor([6, 7, 10, 11]) + k
        assert exchanged.classes[k][[0, 1, 4, 5]].tolist() == classes[[4, 5, 8, 9]].tolist()
        assert exchanged.classes[k][[2, 3, 6, 7]].tolist() == classes[drawn].tolist()
        shown = u[:, first : first + factor.config.u_dim]
        torch.testing.assert_close(shown[[0, 1, 4, 5]], posterior.factors[k].u.mean[[4, 5, 8, 9]])
        torch.testing.assert_close(shown[[2, 3, 6, 7]], factor.prior_modes().mean[classes[drawn]])


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


def test_a_factor_without_labels_does_not_count_in_the_class_error() -> None:
    model = PartedVAE(tiny_config().model)
    both, corner, shade = (
        class_error_with_labels(model, torch.tensor([labels])).item() for labels in ([0, 0], [0, -1], [-1, 0])
    )
    assert both == pytest.approx(corner + shade)
    assert min(corner, shade) > 0


def test_a_class_that_cannot_be_seen_does_not_have_to_be_shown() -> None:
    """The shade has labels with the first two corners alone: it counts in images of those, and the corner in all."""
    torch.manual_seed(0)
    model = PartedVAE(tiny_config().model)
    corners = torch.arange(4).repeat_interleave(FEWEST_LABELS)
    labels = torch.stack([corners, torch.where(corners < 2, 0, -1)], dim=1)
    corner, shade = exchanged_of(model, visibility_tables(labels, (4, 2))).classes
    assert corner.min() >= 0
    assert torch.equal(shade >= 0, corner < 2)
    assert 0 < int((corner < 2).sum()) < len(corner)


def class_error_with_labels(model: PartedVAE, labels: Tensor) -> Tensor:
    torch.manual_seed(0)
    return class_error(model, exchanged_of(model, visibility_tables(labels, (4, 2))), ZeroNoise())


@pytest.mark.parametrize("images", [1, 2, 3, 5, 16])
def test_the_u_of_a_few_images_are_those_of_others(images: int) -> None:
    torch.manual_seed(0)
    model = PartedVAE(tiny_config().model)
    posterior = model.encode(torch.rand(images, 1, 16, 16), slope=1.0, temperature=0.67)
    seen: list[torch.Tensor] = []
    model.decoder.forward = lambda u, z: seen.append(u) or torch.zeros(len(z), 1, 16, 16)  # type: ignore[func-returns-value, method-assign]  # records its input
    exchange(model, posterior, ALL_VISIBLE, ZeroNoise())
    own = posterior.u_mean[0]
    for row in (0, len(seen[0]) // 2):
        assert torch.equal(seen[0][row], own) == (images == 1)


def test_the_cycle_error_trains_trunk_and_z_head_alone() -> None:
    torch.manual_seed(0)
    model = PartedVAE(tiny_config().model)
    cycle_error(model, exchanged_of(model)).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    encoder = {name for name, _ in model.named_parameters() if name.startswith(("trunk.", "z_head."))}
    assert trained == encoder


def test_the_cycle_error_is_of_the_distance_in_units_of_the_posterior() -> None:
    """Means of z that differ by 2 in each of three dimensions, with variances 4: 3 log(1 + 2^2 / (4 + 4))."""
    model = PartedVAE(tiny_config().model)
    with torch.no_grad():
        model.z_head.weight.zero_()
        model.z_head.weight[:3, 0] = 1.0
        model.z_head.bias[3:] = math.log(4.0)
    model.trunk.forward = lambda pixels: torch.eye(32)[[1, 0]] * 2.0  # type: ignore[method-assign]  # h of two images
    exchanged = Exchanged(torch.zeros(2, 1, 16, 16), (torch.zeros(2).long(),) * 2)
    assert cycle_error(model, exchanged).item() == pytest.approx(3 * math.log(1.5))


def test_the_cycle_error_is_finite_where_a_variance_is_zero() -> None:
    """exp(-200) is 0 in 32 bits, and 2^2 divided by it infinite."""
    model = PartedVAE(tiny_config().model)
    with torch.no_grad():
        model.z_head.weight.zero_()
        model.z_head.weight[:3, 0] = 1.0
        model.z_head.bias[3:] = -200.0
    model.trunk.forward = lambda pixels: (torch.eye(32)[[1, 0]] * 2.0).requires_grad_()  # type: ignore[method-assign]  # h of two images
    exchanged = Exchanged(torch.zeros(2, 1, 16, 16), (torch.zeros(2).long(),) * 2)
    error = cycle_error(model, exchanged)
    assert error.item() == pytest.approx(3 * (math.log(4) + 200 - math.log(2)))
    error.backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_the_contrast_is_a_transcription_of_chen_et_al_with_loops() -> None:
    torch.manual_seed(0)
    originals, copies = torch.randn(4, 3), torch.randn(4, 3)
    both = [*originals, *copies]
    similarity = [[torch.cosine_similarity(a, b, dim=0).item() / CONTRAST_TEMPERATURE for b in both] for a in both]
    total = 0.0
    for i in range(8):
        others = sum(math.exp(similarity[i][k]) for k in range(8) if k != i)
        total -= math.log(math.exp(similarity[i][(i + 4) % 8]) / others) / 8
    assert contrast_loss(originals, copies).item() == pytest.approx(total, rel=1e-5)


def test_directions_that_only_a_copy_has_cost_little_and_the_length_of_features_nothing() -> None:
    directions = torch.eye(4)
    least = math.log(1 + 6 * math.exp(-1 / CONTRAST_TEMPERATURE))
    assert contrast_loss(directions, directions).item() == pytest.approx(least, rel=1e-4)
    assert contrast_loss(directions, 3 * directions).item() == pytest.approx(least, rel=1e-4)
    assert contrast_loss(directions, directions.roll(1, 0)).item() > 1


def test_the_contrast_of_a_run_trains_the_posterior_of_u() -> None:
    torch.manual_seed(0)
    config = tiny_config(labels=0)
    objective = dataclasses.replace(config.objective, gamma_contrast=2.0)
    pixels, unlabelled = torch.rand(8, 1, 16, 16), torch.full((1, 2), UNLABELLED)
    losses = []
    for with_contrast in (config, dataclasses.replace(config, objective=objective)):
        torch.manual_seed(1)
        model = PartedVAE(config.model)
        method = PartedVAEMethod(with_contrast, SINGLE_PROCESS, torch.device("cpu"), unlabelled)
        torch.manual_seed(2)
        losses.append(method.losses(model, pixels, schedule_at(0, 10, config.schedule, objective)))
    (without, terms_without), (total, terms) = losses
    assert terms_without["contrast"] == 0
    assert total.item() == pytest.approx(without.item() + 2 * terms["contrast"].item(), rel=1e-4)
    terms["contrast"].backward()
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {"trunk", "factors"}
    for factor in model.class_factors():
        assert factor.u_head.weight.grad is not None
        assert factor.u_head.weight.grad.any()
