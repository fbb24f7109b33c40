"""Traversals vary the labelled dimension and nothing else."""

from __future__ import annotations

import pytest
import torch

from partedvae.training.figures.latents import (
    REACH,
    Latents,
    centred,
    decode,
    replace_u,
    transfer,
    traverse_u,
    traverse_z,
    u_slice,
)
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.partedvae import PartedVAE
from tests.training.toys import TOY_MODEL


def random_latents(*batch: int) -> Latents:
    """Return latents of the toy model: u is 2 + 1 wide, z is 3 wide."""
    return Latents(torch.randn(*batch, 3), torch.randn(*batch, 3))


def test_values_go_from_minus_to_plus_reach_with_an_exact_zero_in_the_middle() -> None:
    for count in (3, 7, 9):
        values = centred(count)
        assert values[count // 2].item() == 0.0
        assert values[[0, -1]].tolist() == [-REACH, REACH]
        torch.testing.assert_close(values.diff(), torch.full((count - 1,), 2 * REACH / (count - 1)))


def test_each_row_of_a_z_traversal_changes_its_own_dimension_alone() -> None:
    base, values = random_latents(), centred(5)
    varied = traverse_z(base, values)
    assert torch.equal(varied.u, base.u.expand(3, 5, 3))
    for row in range(3):
        for dim in range(3):
            expected = values if dim == row else base.z[dim].expand(5)
            assert torch.equal(varied.z[row, :, dim], expected)


def test_a_u_traversal_goes_around_the_mode_and_leaves_z_and_the_other_factor() -> None:
    base, deviations = random_latents(), torch.tensor([-2.0, 0.0, 2.0])
    mode = Gaussian(torch.tensor([1.0, -1.0]), torch.tensor([4.0, 0.25]).log())
    varied = traverse_u(base, u_slice(TOY_MODEL, 0), mode, deviations)
    assert torch.equal(varied.z, base.z.expand(2, 3, 3))
    assert torch.equal(varied.u[..., 2], base.u[2].expand(2, 3))
    torch.testing.assert_close(varied.u[0, :, :2], torch.tensor([[-3.0, -1], [1, -1], [5, -1]]))
    torch.testing.assert_close(varied.u[1, :, :2], torch.tensor([[1.0, -2], [1, -1], [1, 0]]))


def test_the_u_of_all_factors_are_concatenated() -> None:
    assert [u_slice(TOY_MODEL, k) for k in range(2)] == [slice(0, 2), slice(2, 3)]


def test_replacing_the_u_of_a_factor_leaves_everything_else() -> None:
    base, u = random_latents(), torch.randn(4, 1)
    replaced = replace_u(base, u_slice(TOY_MODEL, 1), u)
    assert torch.equal(replaced.u, torch.cat([base.u[:2].expand(4, 2), u], dim=1))
    assert torch.equal(replaced.z, base.z.expand(4, 3))


def test_transfer_combines_the_u_of_a_row_with_the_z_of_a_column() -> None:
    targets, sources = random_latents(4), random_latents(5)
    mixed = transfer(targets, sources)
    for row in range(4):
        for column in range(5):
            assert torch.equal(mixed.u[row, column], targets.u[row])
            assert torch.equal(mixed.z[row, column], sources.z[column])


@pytest.mark.parametrize("batch", [(3,), (2, 150)])
def test_decoding_keeps_the_leading_dimensions_and_does_not_depend_on_its_batches(batch: tuple[int, ...]) -> None:
    model, latents = PartedVAE(TOY_MODEL), random_latents(*batch)
    images = decode(model, latents)
    assert images.shape == (*batch, 16, 16, 1)
    last = decode(model, Latents(latents.u.flatten(0, -2)[-1:], latents.z.flatten(0, -2)[-1:]))
    # Convolutions may round differently for another batch size.
    assert (images.flatten(0, -4)[-1].int() - last[0].int()).abs().max() <= 1
