"""Traversals and combinations of latents, and decoding them for figures."""

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
"""Range of traversals around the mean, in standard deviations of the prior."""
DECODED_AT_ONCE = 200
"""Images per call of the decoder; affects only memory."""


class Latents(NamedTuple):
    """Inputs of the decoder, with any leading dimensions (such as rows and columns of a figure)."""

    u: Float[Tensor, "*batch u_dim"]
    """All u_k, concatenated."""
    z: Float[Tensor, "*batch z_dim"]
    """The class-independent latents."""


def u_slice(config: ModelConfig, k: int) -> slice:
    """Return the position of u_k among all u."""
    start = sum(factor.u_dim for factor in config.factors[:k])
    return slice(start, start + config.factors[k].u_dim)


def centred(count: int) -> Float[Tensor, " count"]:
    """Return evenly spaced values from -REACH to REACH; of an odd number of values, the middle one is exactly 0."""
    return REACH * torch.arange(1 - count, count, 2) / (count - 1)


def vary_each(
    base: Float[Tensor, " dims"], values: Float[Tensor, "dims columns"]
) -> Float[Tensor, "dims columns dims"]:
    """Return copies of a vector: in row i, only dimension i differs from the base and has the values of row i."""
    varied = base.repeat(*values.shape, 1)
    dims = torch.arange(len(base))
    varied[dims, :, dims] = values
    return varied


def traverse_z(base: Latents, values: Float[Tensor, " columns"]) -> Latents:
    """Traverse each dimension of z with fixed u, [z_dim, columns, ...] (Figures 4a, 4b, 6a and 9)."""
    z = vary_each(base.z, values.expand(len(base.z), -1))
    return Latents(base.u.expand(*z.shape[:2], -1), z)


def traverse_u(base: Latents, where: slice, mode: Gaussian, deviations: Float[Tensor, " columns"]) -> Latents:
    """Traverse each dimension of one u_k around a mode of its prior, [u_k_dim, columns, ...] (Figure 4c).

    Args:
        base: provides z and the u of the other factors.
        where: position of u_k among all u.
        mode: p(u_k | c_k = i), without a batch dimension; dimensions that are not traversed are at its mean.
        deviations: distances from the mean, in standard deviations of the mode.
    """
    values = mode.mean[:, None] + torch.exp(0.5 * mode.logvar)[:, None] * deviations
    return replace_u(base, where, vary_each(mode.mean, values))


def replace_u(base: Latents, where: slice, u: Float[Tensor, "*batch u_k_dim"]) -> Latents:
    """Return the base latents with u_k replaced, one copy per given u_k."""
    batch = u.shape[:-1]
    whole = base.u.repeat(*batch, 1)
    whole[..., where] = u
    return Latents(whole, base.z.repeat(*batch, 1))


def transfer(targets: Latents, sources: Latents) -> Latents:
    """Combine the u (and with it the class) of each target with the z of each source (Figure 5).

    Args:
        targets: [rows, ...].
        sources: [columns, ...].

    Returns:
        [rows, columns, ...]
    """
    rows, columns = len(targets.u), len(sources.z)
    return Latents(targets.u[:, None].expand(-1, columns, -1), sources.z[None].expand(rows, -1, -1))


@torch.no_grad()
def decode(model: PartedVAE, latents: Latents) -> UInt8[Tensor, "*batch height width channels"]:
    """Return the mean images at the image size of the data set."""
    us, zs = (part.flatten(0, -2).split(DECODED_AT_ONCE) for part in latents)
    images = [postprocess(model.decoder(u, z), model.config.image_size[:2]) for u, z in zip(us, zs, strict=True)]
    return torch.cat(images).reshape(*latents.z.shape[:-1], *model.config.image_size)
