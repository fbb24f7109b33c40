"""The axis of a factor's prior, the densities on it, and the u along it."""

from __future__ import annotations

import pytest
import torch

from partedvae.training.figures.factor_axes import FactorAxis, along, separating_axis, signed
from partedvae.training.figures.latents import REACH
from partedvae.training.model.distributions import Gaussian

MODES = Gaussian(torch.tensor([[0.0, -3.0], [9.0, 0.0], [1.0, 3.0]]), torch.tensor([100.0, 1.0]).log().expand(3, 2))
"""The means differ most in the first dimension, but relative to the standard deviations in the second."""
PRIOR = (0.5, 0.3, 0.2)


def test_the_axis_is_where_the_modes_are_apart_in_their_own_standard_deviations() -> None:
    axis = separating_axis(MODES)
    assert axis.dim == 1
    assert axis.mean.tolist() == [-3, 0, 3]
    assert axis.deviation.tolist() == [1, 1, 1]


def test_values_cover_every_mode() -> None:
    axis = FactorAxis(0, torch.tensor([0.0, 1.0]), torch.tensor([2.0, 0.1]))
    assert axis.values(3).tolist() == [-2 * REACH, 0.0, 2 * REACH]


def test_densities_integrate_to_the_prior_and_together_to_one() -> None:
    values = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    densities = separating_axis(MODES).densities(PRIOR, values)
    integrals = torch.trapezoid(densities, values)
    assert integrals.tolist() == pytest.approx(PRIOR, abs=1e-6)
    assert integrals.sum().item() == pytest.approx(1, abs=1e-6)


def test_densities_agree_with_torchs_normal() -> None:
    values = torch.linspace(-5, 5, 11)
    actual = FactorAxis(0, torch.tensor([0.5]), torch.tensor([1.7])).densities((1.0,), values)
    torch.testing.assert_close(actual[0], torch.distributions.Normal(0.5, 1.7).log_prob(values).exp())


def test_along_the_axis_the_other_dimensions_are_those_of_the_most_likely_class() -> None:
    u = along(separating_axis(MODES), MODES, PRIOR, torch.tensor([-4.0, -0.5, 2.5]))
    assert u.tolist() == [[0, -4], [9, -0.5], [1, 2.5]]


def test_numbers_have_a_typographic_minus_and_zero_has_none() -> None:
    assert [signed(value) for value in (-1.25, -0.04, 0.0, 3.0)] == ["−1.2", "0.0", "0.0", "3.0"]
