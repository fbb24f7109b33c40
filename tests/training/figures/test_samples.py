"""Choice of images for attribute transfer, and samples from the priors."""

from __future__ import annotations

import torch

from partedvae.training.config.architecture import FactorConfig
from partedvae.training.figures.samples import draw_base, draw_u, framed, spread
from partedvae.training.model.distributions import Gaussian

MODES = Gaussian(torch.tensor([[0.0, 5.0], [-40.0, 0.0]]), torch.tensor([[1.0, 0.01], [1.0, 1.0]]).log())


def test_target_images_are_spread_over_the_classes_and_sorted() -> None:
    classes = torch.tensor([2, -1, 0, 2, 0, 2, 0])
    assert spread(classes, 4).tolist() == [2, 4, 0, 3]
    assert spread(classes, 1).tolist() == [2, 0]
    assert spread(classes, 99).tolist() == [2, 4, 6, 0, 3, 5]


def test_the_frame_has_sources_above_targets_on_the_left_and_a_white_corner() -> None:
    row, column, inner = torch.full((3, 1, 1, 1), 1), torch.full((2, 1, 1, 1), 2), torch.full((2, 3, 1, 1, 1), 3)
    page = framed(row.byte(), column.byte(), inner.byte())
    assert page[..., 0, 0, 0].tolist() == [[255, 1, 1, 1], [2, 3, 3, 3], [2, 3, 3, 3]]


def test_samples_of_u_have_the_mean_and_the_deviation_of_their_class() -> None:
    u = draw_u(MODES, torch.zeros(4000, dtype=torch.int64), torch.Generator().manual_seed(0))
    torch.testing.assert_close(u.mean(0), MODES.mean[0], atol=0.06, rtol=0)
    torch.testing.assert_close(u.std(0), torch.tensor([1.0, 0.1]), atol=0.05, rtol=0)


def test_samples_of_the_classes_follow_the_prior_and_are_seeded() -> None:
    factor = FactorConfig(name="f", classes=("a", "b"), prior=(0.8, 0.2), u_dim=2)
    one, same, other = (draw_base((factor,), [MODES], 3, 2000, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(one.u, same.u)
    assert torch.equal(one.z, same.z)
    assert not torch.equal(one.z, other.z)
    assert one.z.shape == (2000, 3)
    share = (one.u[:, 0] < -20).float().mean().item()
    assert abs(share - 0.2) < 0.04
