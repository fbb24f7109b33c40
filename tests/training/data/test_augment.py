"""Augmentation of images whose result is known from the random numbers."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from partedvae.training.data.augment import MAX_SHIFT, cutout, random_affine
from partedvae.training.distributed import ShardedNoise

SIDE = 32
PIXEL = 2 / (SIDE * MAX_SHIFT)
"""A shift of one pixel, as a fraction of the largest shift."""


class GivenNoise(ShardedNoise):
    """Uniform random numbers that are given."""

    values: Float[Tensor, "batch parameters"]

    def uniform(self, like: Tensor) -> Tensor:
        """Return the values."""
        assert self.values.shape == like.shape
        return self.values


def given(values: list[list[float]]) -> GivenNoise:
    noise = GivenNoise()
    object.__setattr__(noise, "values", torch.tensor(values))
    return noise


def affine(*, angle: float = 0.0, shear: float = 0.0, scale: float = 0.0, x: float = 0.0, y: float = 0.0) -> GivenNoise:
    """Return the noise of one image for parameters that are fractions, from -1 to 1, of the largest ones."""
    return given([[(value + 1) / 2 for value in (angle, shear, scale, x, y)]])


def delta(row: int, column: int) -> Float[Tensor, "1 1 height width"]:
    """Return a black image with one white pixel."""
    pixels = torch.zeros(1, 1, SIDE, SIDE)
    pixels[0, 0, row, column] = 1.0
    return pixels


def test_an_affine_map_without_noise_is_the_identity() -> None:
    pixels = torch.rand(1, 3, SIDE, SIDE)
    torch.testing.assert_close(random_affine(pixels, affine()), pixels, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("shift", "row", "column"), [({"x": PIXEL}, 10, 11), ({"y": PIXEL}, 9, 12)])
def test_a_shift_of_one_pixel_moves_a_delta_by_one(shift: dict[str, float], row: int, column: int) -> None:
    moved = random_affine(delta(10, 12), affine(**shift))
    torch.testing.assert_close(moved, delta(row, column), atol=1e-4, rtol=0)


def test_pixels_from_outside_the_image_are_zero() -> None:
    moved = random_affine(torch.ones(1, 1, SIDE, SIDE), affine(x=2 * PIXEL))
    torch.testing.assert_close(moved[..., :-2], torch.ones(1, 1, SIDE, SIDE - 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(moved[..., -2:], torch.zeros(1, 1, SIDE, 2), atol=1e-4, rtol=0)


def test_rotation_and_scale_keep_the_centre_of_an_image() -> None:
    pixels, centre = torch.rand(1, 1, SIDE + 1, SIDE + 1), SIDE // 2
    for noise in (affine(angle=1.0), affine(scale=-1.0), affine(shear=1.0)):
        changed = random_affine(pixels, noise)
        torch.testing.assert_close(changed[..., centre, centre], pixels[..., centre, centre], atol=1e-4, rtol=0)
        assert (changed - pixels).abs().max() > 0.1


def test_images_of_a_batch_are_changed_independently() -> None:
    noise = given([[0.5, 0.5, 0.5, (1 + PIXEL) / 2, 0.5], [0.5] * 5])
    moved = random_affine(torch.cat([delta(10, 12), delta(10, 12)]), noise)
    torch.testing.assert_close(moved, torch.cat([delta(10, 11), delta(10, 12)]), atol=1e-4, rtol=0)


def test_the_patch_of_cutout_has_its_stated_side() -> None:
    """0.34 of 32 pixels: 11 of them, around the centre."""
    pixels = torch.rand(1, 3, SIDE, SIDE) + 0.1
    cut = cutout(pixels, given([[0.5, 0.5]]))
    patch = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    patch[11:22, 11:22] = True
    assert (cut[..., patch] == 0).all()
    assert torch.equal(cut[..., ~patch], pixels[..., ~patch])


def test_the_patch_of_cutout_is_clipped_at_the_edge() -> None:
    cut = cutout(torch.ones(2, 1, SIDE, SIDE), given([[0.0, 0.5], [0.5, 0.0]]))
    assert [int((image == 0).sum()) for image in cut] == [6 * 11, 11 * 6]
    assert (cut[0, 0, :6, 11:22] == 0).all()
    assert (cut[1, 0, 11:22, :6] == 0).all()


def test_augmentation_depends_on_the_random_state_alone() -> None:
    pixels = torch.rand(4, 1, SIDE, SIDE)
    for augment in (random_affine, cutout):
        torch.manual_seed(3)
        first = augment(pixels)
        second = augment(pixels)
        torch.manual_seed(3)
        assert torch.equal(augment(pixels), first)
        assert not torch.equal(second, first)


def test_mixed_precision_does_not_round_the_coordinates() -> None:
    pixels = torch.rand(8, 1, 32, 32)
    torch.manual_seed(1)
    expected = random_affine(pixels)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(random_affine(pixels), expected)
