"""The terms of Eq. 6 and Eq. 7, on small cases with known values and against transcriptions of the paper."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import pytest
import torch

from partedvae.training.config.paper_recipes import TABLE_6_MNIST
from partedvae.training.config.recipes import recipe
from partedvae.training.data.mnist import INFO
from partedvae.training.model.distributions import Gaussian, kl_between, kl_to_standard
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.regularisers import consistency_loss
from partedvae.training.objectives.terms import (
    Terms,
    capacity_loss,
    elbo_terms,
    kl_of_u,
    reconstruction_error,
    supervised_loss,
    total_loss,
)
from tests.training.toys import TOY_MODEL, tiny_config

SLOPE = 3.0


def test_binary_cross_entropy_is_summed_over_pixels() -> None:
    """At logit 0 the cross-entropy of every pixel is log 2, for any value."""
    error = reconstruction_error(torch.zeros(2, 1, 4, 4), torch.rand(2, 1, 4, 4), "bce")
    torch.testing.assert_close(error, torch.full((2,), 16 * math.log(2)))


def test_l1_is_summed_over_pixels() -> None:
    """At logit 0 the pixel is 0.5."""
    error = reconstruction_error(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.75), "l1")
    torch.testing.assert_close(error, torch.full((2,), 48 * 0.25))


@pytest.mark.parametrize(
    ("penalty", "of", "expected"),
    [
        ("absolute", "batch", 0.0),
        ("absolute", "image", 20.0),
        ("hinge", "batch", 3.0),
        # Images with 1 and 5 nats: the mean of 1 and 5 + 10 (5 - 3).
        ("hinge", "image", 13.0),
    ],
)
def test_the_capacity_loss_of_the_batch_averages_first_and_that_of_images_last(
    penalty: Literal["absolute", "hinge"], of: Literal["batch", "image"], expected: float
) -> None:
    config = dataclasses.replace(TABLE_6_MNIST, capacity_penalty=penalty, capacity_of=of)
    assert capacity_loss(torch.tensor([1.0, 5.0]), 3.0, 10.0, config).item() == expected


def test_the_hinge_is_the_plain_kl_below_the_capacity() -> None:
    config = dataclasses.replace(TABLE_6_MNIST, capacity_penalty="hinge")
    kl = torch.tensor([1.0, 3.0], requires_grad=True)
    loss = capacity_loss(kl, 5.0, 10.0, config)
    loss.backward()
    assert loss.item() == 2.0
    assert kl.grad is not None
    torch.testing.assert_close(kl.grad, torch.tensor([0.5, 0.5]))


def test_total_loss_weighs_every_term_with_its_gamma() -> None:
    objective = dataclasses.replace(
        recipe(INFO, "paper").objective, gamma_z=2.0, gamma_u=3.0, gamma_h=5.0, gamma_c=7.0, gamma_bc=11.0
    )
    terms = Terms(*map(torch.tensor, (100.0, [[1.0, 2.0], [2.0, 3.0]], [1.0, 1.0], 0.5, 0.25, 0.1)))
    expected = 100 + 2 * abs(4 - 1.5) + 3 * abs(1 - 2.5) + 5 * 0.5 + 7 * 0.25 + 11 * 0.1
    assert total_loss(terms, objective, 1.5, 2.5).item() == pytest.approx(expected)


def test_the_kl_of_a_dimension_of_z_weighs_more_until_it_opens() -> None:
    """With two dimensions of 2 and 6 nats below the capacity: weights 3 and 10 while the second is closed, then 3."""
    objective = dataclasses.replace(
        recipe(INFO, "paper").objective, capacity_penalty="hinge", beta_z=3.0, beta_z_closed=10.0
    )
    terms = Terms(*map(torch.tensor, (0.0, [[1.0, 5.0], [3.0, 7.0]], [0.0, 0.0], 0.0, 0.0, 0.0)))
    closed, half, opened = (
        total_loss(terms, objective, 20.0, 0.0, opened_z=time).item() for time in (0.5, 1.125, math.inf)
    )
    assert closed == pytest.approx(3 * 2 + 10 * 6)
    assert half == pytest.approx(3 * 2 + 6.5 * 6)
    assert opened == pytest.approx(3 * 2 + 3 * 6)


def test_the_sampled_kl_of_u_weighs_all_modes_by_the_posterior_of_c() -> None:
    """A transcription with loops: sum over i of q(c = i | x) KL(q(u | c', x) || p(u | c = i))."""
    model = PartedVAE(TOY_MODEL)
    posterior = model.encode(torch.rand(5, 1, 16, 16), slope=SLOPE, temperature=0.67)
    module, q = next(model.class_factors()), posterior.factors[0]
    modes = module.prior_modes()
    actual = kl_of_u(module, q, posterior.hidden, "sampled", SLOPE)
    for image in range(5):
        one = Gaussian(q.u.mean[image], q.u.logvar[image])
        expected = sum(q.probs[image, i] * kl_between(one, Gaussian(modes.mean[i], modes.logvar[i])) for i in range(4))
        torch.testing.assert_close(actual[image], expected)


def test_the_matched_kl_of_u_gives_each_mode_its_own_posterior() -> None:
    """A transcription of Eq. 2's second term with loops: each class passes the attention separately."""
    model = PartedVAE(TOY_MODEL)
    posterior = model.encode(torch.rand(5, 1, 16, 16), slope=SLOPE, temperature=0.67)
    module, q = next(model.class_factors()), posterior.factors[0]
    modes = module.prior_modes()
    expected = torch.zeros(5)
    for i in range(4):
        one_hot = torch.zeros(5, 4)
        one_hot[:, i] = 1
        u = module.u_posterior(posterior.hidden, one_hot, SLOPE)
        expected = expected + q.probs[:, i] * kl_between(u, Gaussian(modes.mean[i], modes.logvar[i]))
    torch.testing.assert_close(kl_of_u(module, q, posterior.hidden, "matched", SLOPE), expected)


def test_terms_of_a_model_with_two_factors_sum_over_the_factors() -> None:
    """A.5: entropy, KL of c and KL of u are sums over k."""
    model = PartedVAE(TOY_MODEL)
    objective = dataclasses.replace(tiny_config().objective, bc_threshold=0.0)
    pixels = torch.rand(6, 1, 16, 16)
    posterior = model.encode(pixels, slope=SLOPE, temperature=0.67)
    terms = elbo_terms(model, pixels, posterior, objective, SLOPE)
    modules = list(model.class_factors())
    expected_kl = sum(
        kl_of_u(m, q, posterior.hidden, "sampled", SLOPE) for m, q in zip(modules, posterior.factors, strict=True)
    )
    torch.testing.assert_close(terms.kl_u, expected_kl)
    torch.testing.assert_close(terms.kl_z.sum(dim=1), kl_to_standard(posterior.z))
    entropies = [-(q.probs * q.probs.log()).sum(1).mean() for q in posterior.factors]
    torch.testing.assert_close(terms.entropy, entropies[0] + entropies[1])
    means = [q.probs.mean(0) for q in posterior.factors]
    mismatch = sum(
        (m * (m / p).log()).sum() for m, p in zip(means, (torch.full((4,), 0.25), torch.full((2,), 0.5)), strict=True)
    )
    torch.testing.assert_close(terms.kl_c, mismatch)


def test_every_parameter_learns_from_the_elbo_step_and_only_the_classifier_from_the_supervised_one() -> None:
    """Section 4.5: the former affects phi, theta and psi; the latter the encoder, here its trunk and the heads of c."""
    model = PartedVAE(TOY_MODEL)
    pixels, objective = torch.rand(6, 1, 16, 16), tiny_config().objective
    posterior = model.encode(pixels, slope=SLOPE, temperature=0.67)
    total_loss(elbo_terms(model, pixels, posterior, objective, SLOPE), objective, 1.0, 1.0).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    model.zero_grad()
    supervised_loss(model.class_logits(pixels), torch.ones(6, 2, dtype=torch.int64)).backward()
    learning = {id(p) for p in model.parameters() if p.grad is not None}
    assert learning == {id(p) for p in model.classifier_parameters()}


def test_supervised_loss_is_the_mean_over_the_known_labels() -> None:
    """Eq. 7 with a missing label: the first factor has one label of two, the second none."""
    logits = (torch.tensor([[0.0, 0.0], [5.0, -5.0]]), torch.randn(2, 3))
    loss = supervised_loss(logits, torch.tensor([[1, -1], [-1, -1]]))
    assert loss.item() == pytest.approx(math.log(2))


def test_consistency_uses_only_confident_classes() -> None:
    teacher = (torch.tensor([[9.0, 0.0], [0.1, 0.0]]),)
    student = (torch.tensor([[0.0, 0.0], [0.0, 9.0]]),)
    assert consistency_loss(teacher, student, 0.95).item() == pytest.approx(math.log(2) / 2)
    assert consistency_loss((torch.zeros(2, 2),), student, 0.95).item() == 0.0
