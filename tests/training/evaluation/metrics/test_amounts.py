"""R^2 of amounts that are in a latent, in part, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from partedvae.training.evaluation.metrics.amounts import amount_r2

COUNT = 1_000
AMOUNT = np.random.default_rng(0).integers(3, size=COUNT).astype(np.float64)


def noise(dims: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(COUNT, dims)).astype(np.float32)


def test_an_amount_is_read_off_a_curved_function_of_it() -> None:
    latent = np.concatenate([AMOUNT[:, None] ** 4 + 0.05 * noise(1), noise(1)], axis=1)
    assert amount_r2(latent, AMOUNT, 0) > 0.98


def test_half_of_the_variance_gives_about_a_half() -> None:
    latent = AMOUNT[:, None] + AMOUNT.std() * noise(1)
    assert amount_r2(latent, AMOUNT, 0) == pytest.approx(0.5, abs=0.06)


def test_noise_and_a_constant_give_nothing() -> None:
    assert -0.1 < amount_r2(noise(6), AMOUNT, 0) <= 0.01
    assert amount_r2(np.full((COUNT, 2), 0.3, np.float32), AMOUNT, 0) == 0.0
