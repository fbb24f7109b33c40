"""Tests of `partedvae.serving.operations.sampling`."""

from __future__ import annotations

import numpy as np
import pytest

from partedvae.serving.operations.sampling import draw
from tests.bundles import COLOURED, GREY

MANIFEST = COLOURED.manifest()


def test_few_images_are_the_first_of_many() -> None:
    """Image i depends on the seed alone, not on the count."""
    few, many = draw(MANIFEST, 4, {}, seed=7), draw(MANIFEST, 50, {}, seed=7)
    np.testing.assert_array_equal(few.u, many.u[:4])
    np.testing.assert_array_equal(few.z, many.z[:4])
    for a, b in zip(few.class_indices, many.class_indices, strict=True):
        np.testing.assert_array_equal(a, b[:4])


def test_seeds_differ_and_repeat() -> None:
    """The same seed gives the same latents, another seed others; 64-bit seeds work."""
    one, same, other = (draw(GREY.manifest(), 3, {}, seed) for seed in (2**64 - 1, 2**64 - 1, 1))
    np.testing.assert_array_equal(one.z, same.z)
    assert not np.array_equal(one.z, other.z)


def test_a_fixed_class_changes_its_factor_alone() -> None:
    """Fixing one factor's class leaves z and the other factor as they are."""
    free, fixed = draw(MANIFEST, 20, {}, seed=3), draw(MANIFEST, 20, {"shape": 2}, seed=3)
    assert (fixed.class_indices[0] == 2).all()
    np.testing.assert_array_equal(free.class_indices[1], fixed.class_indices[1])
    np.testing.assert_array_equal(free.z, fixed.z)
    np.testing.assert_array_equal(free.u[:, 2], fixed.u[:, 2])
    assert not np.array_equal(free.u[:, :2], fixed.u[:, :2])


def test_shapes_and_types() -> None:
    """Latents are float32, side by side in the manifest's order."""
    latents = draw(MANIFEST, 6, {}, seed=0)
    assert latents.u.shape == (6, 3)
    assert latents.u.dtype == np.float32
    assert latents.z.shape == (6, 5)
    assert latents.z.dtype == np.float32
    assert [c.shape for c in latents.class_indices] == [(6,), (6,)]


def test_moments() -> None:
    """Classes have the frequencies of p(c), u the mean and variance of p(u | c), z those of N(0, I)."""
    factor = MANIFEST.factors[0]
    latents = draw(MANIFEST, 60_000, {}, seed=11)
    indices = latents.class_indices[0]
    np.testing.assert_allclose(np.bincount(indices) / len(indices), factor.prior_probs, atol=0.01)
    means, logvars = (np.reshape(list(v), (3, 2)) for v in (factor.prior_means, factor.prior_logvars))
    for k in range(3):
        u = latents.u[indices == k, :2]
        np.testing.assert_allclose(u.mean(axis=0), means[k], atol=0.02)
        np.testing.assert_allclose(np.log(u.var(axis=0)), logvars[k], atol=0.06)
    np.testing.assert_allclose(latents.z.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(latents.z.std(axis=0), 1, atol=0.02)


@pytest.mark.parametrize("probs", [[0.0, 1.0, 0.0], [0.3333333, 0.3333333, 0.3333333]])
def test_every_index_is_a_class(probs: list[float]) -> None:
    """A class of probability zero is not drawn, and rounding of the prior does not lead past the last class."""
    manifest = COLOURED.manifest()
    manifest.factors[0].prior_probs[:] = probs
    drawn = set(draw(manifest, 20_000, {}, seed=0).class_indices[0].tolist())
    assert drawn == {k for k, p in enumerate(probs) if p > 0}
