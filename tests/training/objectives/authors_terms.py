"""The terms of the objective as the authors' published code computes them, recorded once as numbers.

Source: github.com/sinahmr/parted-vae at commit 261f0654de605c6a260784e47e9a17a737a1a985, run with PyTorch 2.13 in
float64. Each case has the networks and the weights of the loss of one of the paper's data sets, and four random images.
Weights, images, noise and labels are rebuilt on both sides by `array` from NumPy's RandomState, whose streams are
frozen. In the authors' code, the masked layers that hold the attention and the u heads of all class variables were
filled with the blocks of the factors, the noise was replaced by the arrays, step and attention slope were set so that
the next step has the slope and the capacities of the case, and p(c) is ours, which sums to one (theirs is 0.33, 0.33,
0.34 for dSprites, and sums to 0.99 for hair colour). Gradients are those of the total loss, after the authors' masks.
Two calls that PyTorch no longer accepts (an index that is a list of tuples, `verbose` of a scheduler) were adapted.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BATCH = 4
"""Images per batch."""
HEAD_GAIN = 1.0
"""Gain of the layers that no ReLU follows; that of the others is 6, which keeps the variance of their outputs."""

Kind = Literal["gaussian", "centred", "unit", "binary"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison."""

    dataset: str
    """Data set whose recipe `paper` has the networks and the weights of the loss."""
    pixels: Kind
    """Distribution of the pixels."""
    slope: float
    """Steepness of the attention."""
    capacity_z: float
    """C_z in nats."""
    capacity_u: float
    """C_u in nats."""
    terms: dict[str, float]
    """Unweighted terms, total loss and supervised loss, in nats."""
    gradients: dict[str, float]
    """Euclidean norm of the gradient of the total loss, by layer; that of all class variables together."""

    def array(
        self, label: str, shape: tuple[int, ...], *, kind: Kind = "centred", scale: float = 1.0
    ) -> NDArray[np.float32]:
        """Return an array that depends on the data set and its label alone.

        Args:
            label: name of the array.
            shape: its shape.
            kind: distribution: "gaussian" is N(0, scale²), "centred" U(-scale, scale), "unit" U(0, 1), "binary" 0 or 1.
            scale: see `kind`.
        """
        stream = np.random.RandomState(zlib.crc32(f"{self.dataset}: {label}".encode()))
        if kind == "gaussian":
            return (scale * stream.standard_normal(shape)).astype(np.float32)
        unit = stream.random_sample(shape)
        values = {"centred": scale * (2 * unit - 1), "unit": unit, "binary": (unit > 0.5).astype(float)}[kind]
        return values.astype(np.float32)

    def weight(self, layer: str, shape: tuple[int, ...], fan_in: int, gain: float = 6.0) -> NDArray[np.float32]:
        """Return the weights of a layer: U(±sqrt(gain / fan_in))."""
        return self.array(f"{layer} weight", shape, scale=(gain / fan_in) ** 0.5)

    def bias(self, layer: str, count: int) -> NDArray[np.float32]:
        """Return the biases of a layer: U(±0.1)."""
        return self.array(f"{layer} bias", (count,), scale=0.1)


CASES = (
    Case(
        dataset="mnist",
        pixels="unit",
        slope=3.0,
        capacity_z=4.0,
        capacity_u=2.0,
        terms={
            "reconstruction": 734.005578,
            "kl_z": 0.695179512,
            "kl_u": 9.92343557,
            "kl_c": 0.0183113589,
            "entropy": 2.28017815,
            "bhattacharyya": 5.27279055,
            "loss": 1129.29315,
            "supervised": 2.23513156,
        },
        gradients={
            "encoder 0": 28.6866895,
            "hidden": 264.973464,
            "logits": 87.7186539,
            "attention": 8.74761058,
            "u head": 279.474073,
            "z head": 120.721148,
            "prior means": 139.304374,
            "prior log-variances": 59.881819,
            "decoder last": 110.368094,
        },
    ),
    Case(
        dataset="dsprites",
        pixels="binary",
        slope=5.0,
        capacity_z=20.0,
        capacity_u=3.0,
        terms={
            "reconstruction": 2896.92359,
            "kl_z": 0.366884942,
            "kl_u": 0.229971546,
            "kl_c": 0.0311988944,
            "entropy": 1.06353077,
            "bhattacharyya": 2.29132968,
            "loss": 4053.74926,
            "supervised": 1.03117441,
        },
        gradients={
            "encoder 0": 45.7194706,
            "hidden": 414.010271,
            "logits": 147.142155,
            "attention": 1.57869566,
            "u head": 26.7054572,
            "z head": 468.590992,
            "prior means": 23.4825751,
            "prior log-variances": 28.1308917,
            "decoder last": 357.09851,
        },
    ),
    Case(
        dataset="celeba",
        pixels="unit",
        slope=8.0,
        capacity_z=30.0,
        capacity_u=15.0,
        terms={
            "reconstruction": 30536.2835,
            "kl_z": 0.58629369,
            "kl_u": 9.04329634,
            "kl_c": 3.48253012,
            "entropy": 6.65566437,
            "bhattacharyya": 11.7544647,
            "loss": 78815.5427,
            "supervised": 7.69237176,
        },
        gradients={
            "encoder 0": 8008.42985,
            "hidden": 60434.5428,
            "logits": 52089.4487,
            "attention": 1863.92796,
            "u head": 34424.7275,
            "z head": 9393.74229,
            "prior means": 2012.17702,
            "prior log-variances": 7001.26012,
            "decoder last": 4939.48371,
        },
    ),
)
"""The comparisons."""
