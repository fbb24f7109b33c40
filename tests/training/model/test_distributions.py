"""The divergences of the objective against independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from partedvae.training.model.distributions import (
    Gaussian,
    bhattacharyya_coefficients,
    bhattacharyya_penalty,
    categorical_kl,
    entropy,
    kl_between,
    kl_to_modes,
    kl_to_standard,
)


def random_gaussian(*shape: int) -> Gaussian:
    return Gaussian(torch.randn(shape), torch.randn(shape))


def reference_kl(q: Gaussian, p: Gaussian) -> torch.Tensor:
    normals = [Normal(g.mean, (0.5 * g.logvar).exp()) for g in (q, p)]
    return kl_divergence(*normals).sum(dim=-1)


def test_kl_to_standard_is_that_of_torch_distributions() -> None:
    q = random_gaussian(7, 5)
    standard = Gaussian(torch.zeros(7, 5), torch.zeros(7, 5))
    torch.testing.assert_close(kl_to_standard(q), reference_kl(q, standard))


def test_kl_between_gaussians_is_that_of_torch_distributions() -> None:
    q, p = random_gaussian(7, 5), random_gaussian(7, 5)
    torch.testing.assert_close(kl_between(q, p), reference_kl(q, p))


def test_kl_to_modes_pairs_every_posterior_with_every_mode() -> None:
    q, modes = random_gaussian(7, 5), random_gaussian(3, 5)
    divergences = kl_to_modes(q, modes)
    assert divergences.shape == (7, 3)
    for image in range(7):
        for mode in range(3):
            expected = reference_kl(
                Gaussian(q.mean[image], q.logvar[image]), Gaussian(modes.mean[mode], modes.logvar[mode])
            )
            torch.testing.assert_close(divergences[image, mode], expected)


def test_entropy_is_that_of_torch_distributions_and_at_most_log_of_the_classes() -> None:
    logits = 3 * torch.randn(7, 4)
    torch.testing.assert_close(entropy(logits), Categorical(logits=logits).entropy())
    torch.testing.assert_close(entropy(torch.zeros(1, 4)), torch.tensor([math.log(4)]))


def test_categorical_kl_is_that_of_torch_distributions() -> None:
    q, p = torch.softmax(torch.randn(6), 0), torch.softmax(torch.randn(6), 0)
    torch.testing.assert_close(categorical_kl(q, p), kl_divergence(Categorical(q), Categorical(p)))


def test_categorical_kl_of_a_collapsed_posterior_is_the_log_of_the_classes_with_a_finite_gradient() -> None:
    q = torch.tensor([1.0, 0.0, 0.0, 0.0], requires_grad=True)
    divergence = categorical_kl(q, torch.full((4,), 0.25))
    torch.testing.assert_close(divergence, torch.tensor(math.log(4)))
    divergence.backward()
    assert q.grad is not None
    # d/dq (q log q - q log p) = log q + 1 - log p, which is finite at q = 1 and must be so at q = 0 too.
    assert q.grad[0].item() == pytest.approx(1 + math.log(4))
    assert torch.isfinite(q.grad).all()
    assert (q.grad[1:] < 0).all()


def test_categorical_kl_and_entropy_of_saturated_logits_have_finite_gradients() -> None:
    """The softmax of a logit that is 200 below another is exactly zero in single precision."""
    logits = torch.tensor([[200.0, 0.0, 0.0, 0.0]], requires_grad=True)
    loss = categorical_kl(torch.softmax(logits, dim=-1).mean(dim=0), torch.full((4,), 0.25)) + entropy(logits).sum()
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_gradient_of_the_entropy_is_its_analytic_derivative() -> None:
    """The derivative with respect to logit i is -p_i (log p_i + H)."""
    logits = (3 * torch.randn(7, 4)).requires_grad_()
    h = entropy(logits)
    h.sum().backward()
    log_probs = torch.log_softmax(logits.detach(), dim=-1)
    torch.testing.assert_close(logits.grad, -log_probs.exp() * (log_probs + h.detach().unsqueeze(1)))


def test_bhattacharyya_coefficient_is_the_integral_of_the_root_of_the_product() -> None:
    """Section 3.2's definition, integrated numerically in one dimension."""
    modes = Gaussian(torch.tensor([[0.3], [1.7], [-2.0]]), torch.tensor([[0.4], [-1.2], [0.9]]))
    grid = np.linspace(-25, 25, 200_001)
    densities = [
        np.exp(-0.5 * (grid - m) ** 2 / math.exp(v)) / math.sqrt(2 * math.pi * math.exp(v))
        for m, v in zip(modes.mean.flatten().tolist(), modes.logvar.flatten().tolist(), strict=True)
    ]
    actual = bhattacharyya_coefficients(modes)
    for i in range(3):
        for j in range(3):
            expected = np.trapezoid(np.sqrt(densities[i] * densities[j]), grid)
            assert actual[i, j].item() == pytest.approx(expected, abs=1e-5)


def test_bhattacharyya_coefficient_of_several_dimensions_is_the_product_over_them() -> None:
    modes = random_gaussian(4, 3)
    each = [bhattacharyya_coefficients(Gaussian(modes.mean[:, [d]], modes.logvar[:, [d]])) for d in range(3)]
    torch.testing.assert_close(bhattacharyya_coefficients(modes), each[0] * each[1] * each[2])


def test_bhattacharyya_penalty_counts_each_pair_once_and_only_what_exceeds_the_threshold() -> None:
    """Two equal modes and one far away: one pair with coefficient 1, two pairs with 0."""
    modes = Gaussian(torch.tensor([[0.0], [0.0], [100.0]]), torch.zeros(3, 1))
    assert bhattacharyya_penalty(modes, 0.15).item() == pytest.approx(0.85)
    assert bhattacharyya_penalty(modes, 1.0).item() == 0.0


def test_samples_have_the_mean_and_the_deviation_of_the_gaussian() -> None:
    samples = Gaussian(torch.full((200_000, 1), 2.0), torch.full((200_000, 1), math.log(9.0))).sample()
    assert samples.mean().item() == pytest.approx(2.0, abs=0.03)
    assert samples.std().item() == pytest.approx(3.0, abs=0.03)
