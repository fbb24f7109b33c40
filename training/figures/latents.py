"""What the figures do to latents before they decode them: pure functions, so that tests can say what varies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from partedvae.training.config.architecture import ModelConfig
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.networks import postprocess
from partedvae.training.model.partedvae import PartedVAE

REACH = 2.5
"""How far traversals go from the mean, in standard deviations of the prior."""
DECODED_AT_ONCE = 200
"""Images of one call of the decoder; it changes nothing but memory."""


class Latents(NamedTuple):
    """What the decoder reads, with any leading dimensions (rows and columns of a figure)."""

    u: Float[Tensor, "*batch u_dim"]
    """All u_k side by side."""
    z: Float[Tensor, "*batch z_dim"]
    """The class-independent part."""


def u_slice(config: ModelConfig, k: int) -> slice:
    """Return where the u of factor k sits among all u."""
    start = sum(factor.u_dim for factor in config.factors[:k])
    return slice(start, start + config.factors[k].u_dim)


def centred(count: int) -> Float[Tensor, " count"]:
    """Return evenly spaced values from -REACH to REACH; an odd number of them has an exact 0 in its middle."""
    return REACH * torch.arange(1 - count, count, 2) / (count - 1)


def vary_each(
    base: Float[Tensor, " dims"], values: Float[Tensor, "dims columns"]
) -> Float[Tensor, "dims columns dims"]:
    """Return copies of a vector: in row i only dimension i differs from the base, and takes the values of row i."""
    varied = base.repeat(*values.shape, 1)
    dims = torch.arange(len(base))
    varied[dims, :, dims] = values
    return varied


def traverse_z(base: Latents, values: Float[Tensor, " columns"]) -> Latents:
    """Traverse each dimension of z, [z_dim, columns, ...]; u stays (Figures 4a, 4b, 6a and 9)."""
    z = vary_each(base.z, values.expand(len(base.z), -1))
    return Latents(base.u.expand(*z.shape[:2], -1), z)


def traverse_u(base: Latents, where: slice, mode: Gaussian, deviations: Float[Tensor, " columns"]) -> Latents:
    """Traverse each dimension of one u_k around a mode of its prior, [u_k_dim, columns, ...] (Figure 4c).

    Args:
        base: gives z and the u of the other factors.
        where: the place of u_k among all u.
        mode: p(u_k | c_k = i), vectors; the dimensions that are not traversed stay at its mean.
        deviations: how far from the mean, in standard deviations of the mode.
    """
    values = mode.mean[:, None] + torch.exp(0.5 * mode.logvar)[:, None] * deviations
    return replace_u(base, where, vary_each(mode.mean, values))


def replace_u(base: Latents, where: slice, u: Float[Tensor, "*batch u_k_dim"]) -> Latents:
    """Return the base latents with another u_k: once for each u_k that is given."""
    batch = u.shape[:-1]
    whole = base.u.repeat(*batch, 1)
    whole[..., where] = u
    return Latents(whole, base.z.repeat(*batch, 1))


def transfer(keep: Latents, give: Latents) -> Latents:
    """Combine the u (and with it the class) of each of `keep` with the z of each of `give` (Figure 5).

    Args:
        keep: [rows, ...].
        give: [columns, ...].

    Returns:
        [rows, columns, ...]
    """
    rows, columns = len(keep.u), len(give.z)
    return Latents(keep.u[:, None].expand(-1, columns, -1), give.z[None].expand(rows, -1, -1))


@torch.no_grad()
def decode(model: PartedVAE, latents: Latents) -> UInt8[Tensor, "*batch height width channels"]:
    """Return the mean images at the data set's size."""
    us, zs = (part.flatten(0, -2).split(DECODED_AT_ONCE) for part in latents)
    images = [postprocess(model.decoder(u, z), model.config.image_size[:2]) for u, z in zip(us, zs, strict=True)]
    return torch.cat(images).reshape(*latents.z.shape[:-1], *model.config.image_size)
