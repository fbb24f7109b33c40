"""What an oracle sees in the images of decoders with a known behaviour.

The decoders write u and z into pixels, and the oracle reads the class off these pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from partedvae.training.data.dataset import ImageDataset, Split
from partedvae.training.evaluation.metrics.generation import Generation, generation
from partedvae.training.evaluation.oracle import Oracle, OracleNetwork
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.networks import Decoder
from partedvae.training.model.partedvae import FactorPosterior, PartedVAE, Posterior
from tests.training.toys import CORNERS, SHADES, TOY_INFO, TOY_MODEL, tiny_config

COUNT = 120
SUPERVISED = {"corner": True, "shade": True}


def dataset(labels: Tensor) -> ImageDataset:
    """Return images whose first two pixels are their classes, as grey levels."""
    images = torch.zeros(len(labels), 16, 16, 1, dtype=torch.uint8)
    images[:, 0, :2, 0] = (10 * labels.clamp(min=0)).to(torch.uint8)
    split = Split(images=images, labels=labels)
    return ImageDataset(info=TOY_INFO, train=split, test=split, source={"toys": "drawn"})


def balanced() -> Tensor:
    rows = torch.arange(COUNT)
    return torch.stack([rows % 4, rows // 4 % 2], dim=1)


class PixelDecoder(Decoder):
    """Writes, into the first pixel, the corner that u or z has, and into the second the shade that u has."""

    def __init__(self, source: str) -> None:
        super().__init__(TOY_MODEL)
        self.source = source

    def forward(self, u: Tensor, z: Tensor) -> Tensor:
        pixels = torch.zeros(len(u), 1, 16, 16)
        pixels[:, 0, 0, 0] = u[:, 0] if self.source == "u" else z[:, 0]
        pixels[:, 0, 0, 1] = u[:, 2]
        return pixels


class RecordingDecoder(PixelDecoder):
    """Keeps the u of the shade."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.shades: list[Tensor] = []

    def forward(self, u: Tensor, z: Tensor) -> Tensor:
        self.shades.append(u[:, 2])
        return super().forward(u, z)


class Reader(OracleNetwork):
    """The network of an oracle that reads the classes off the first two pixels, in tenths."""

    def __init__(self) -> None:
        super().__init__((16, 16), 1, (4, 2))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        corner, shade = (pixels[:, 0, 0, :2] * 10).T
        return (
            -(corner[:, None] - torch.arange(4)).abs(),
            -(shade[:, None] - torch.arange(2)).abs(),
        )


class Model(PartedVAE):
    """Encodes the class of the pixels exactly, into u and into z, in tenths."""

    def __init__(self, source: str = "u") -> None:
        super().__init__(TOY_MODEL)
        self.decoder = PixelDecoder(source)
        with torch.no_grad():
            for factor, count in zip(self.class_factors(), (4, 2), strict=True):
                factor.prior_mean[:] = 0.1 * torch.arange(count)[:, None]
        # The narrowest prior has a standard deviation of 0.22, wider than the classes are apart.
        for factor in self.class_factors():
            factor.prior_modes = _exact(factor.prior_mean)  # type: ignore[method-assign]  # modes without variance

    def encode(self, pixels: Tensor, **options: object) -> Posterior:
        corner, shade = (pixels[:, 0, 0, :2] * 25.5).round().T / 10
        u = [
            Gaussian(torch.stack([corner, corner], 1), torch.zeros(len(pixels), 2)),
            Gaussian(shade[:, None], shade[:, None]),
        ]
        factors = tuple(FactorPosterior(mean.mean, mean.mean, mean) for mean in u)
        z = torch.stack([corner, corner, corner], 1)
        return Posterior(torch.zeros(len(pixels), 4), factors, Gaussian(z, z))


def _exact(mean: Tensor) -> Callable[[], Gaussian]:
    return lambda: Gaussian(mean.detach(), torch.full_like(mean, -30.0))


def measured(
    source: str = "u", labels: Tensor | None = None, supervised: dict[str, bool] = SUPERVISED
) -> dict[str, Generation]:
    oracle = Oracle(network=Reader(), accuracy={"corner": 0.98, "shade": 1.0})
    data = dataset(balanced() if labels is None else labels)
    return {g.factor: g for g in generation(Model(source), data, tiny_config(), oracle, supervised, 0)}


def test_a_class_in_u_alone_is_seen_everywhere() -> None:
    corner, shade = measured().values()
    assert corner.classes == dict.fromkeys(CORNERS, 1.0)
    assert shade.classes == dict.fromkeys(SHADES, 1.0)
    assert (corner.exchange, corner.redraw, corner.reconstruction) == (1.0, 1.0, 1.0)
    assert (corner.mean, corner.worst) == (1.0, ("top left", 1.0))
    assert (corner.oracle, shade.oracle) == (0.98, 1.0)


def test_a_class_in_z_is_seen_in_reconstructions_only() -> None:
    """Z ~ N(0, 1), in tenths: most draws are seen as the first or the last of four classes."""
    found = measured("z")
    corner, shade = found["corner"], found["shade"]
    assert corner.reconstruction == 1.0
    assert corner.exchange == pytest.approx(0.25, abs=0.1)
    assert corner.redraw == pytest.approx(0.25, abs=0.1)
    assert corner.classes is not None
    # Phi(0.05), two intervals of 0.1, and 1 - Phi(0.25).
    assert list(corner.classes.values()) == pytest.approx([0.520, 0.040, 0.039, 0.401], abs=0.06)
    assert corner.worst is not None
    assert corner.worst[0] in CORNERS[1:3]
    assert shade.classes == dict.fromkeys(SHADES, 1.0)


def test_images_without_a_label_are_not_counted_and_their_class_is_not_required() -> None:
    labels = balanced()
    labels[::3, 0] = -1  # their pixels are those of the first class
    assert measured(labels=labels)["corner"].reconstruction == 1.0


def test_clusters_have_no_names_so_that_only_the_exchanges_are_measured() -> None:
    corner = measured(supervised={"corner": False, "shade": True})["corner"]
    assert (corner.classes, corner.mean, corner.worst, corner.diversity) == (None, None, None, None)
    assert corner.exchange == 1.0


def test_classes_that_hide_a_factor_are_not_drawn_with_it() -> None:
    """No image of shade "bright" has a label of the corner."""
    labels = balanced()
    labels[labels[:, 1] == 1, 0] = -1
    model = Model()
    decoder = RecordingDecoder("u")
    model.decoder = decoder
    oracle = Oracle(network=Reader(), accuracy={"corner": 1.0})
    generation(model, dataset(labels), tiny_config(), oracle, SUPERVISED, 0)
    shades = torch.cat(decoder.shades[3:])  # after the three exchanges
    assert shades.abs().max() < 1e-3


def test_diversity_is_the_ratio_of_the_variances_within_a_class() -> None:
    """Drawn from z ~ N(0, 1), the first pixel has variance 1; that of the real images is made 4 levels of 1/255."""
    data = dataset(balanced())
    images = data.test.images[torch.arange(COUNT)].clone()
    level = torch.arange(COUNT) // 8 % 2  # independent of both factors
    images[:, 5, 5, 0] = (100 + 100 * level).to(torch.uint8)
    split = dataclasses.replace(data.test, images=images)
    oracle = Oracle(network=Reader(), accuracy={"corner": 1.0})
    (corner,) = generation(Model("z"), dataclasses.replace(data, test=split), tiny_config(), oracle, SUPERVISED, 0)
    shade_levels = (10 / 255) ** 2 / 4  # the second pixel of the real images
    real = (100 / 255) ** 2 * float(level.double().var(unbiased=False)) + shade_levels
    drawn = 1 + 0.1**2 / 4
    assert corner.diversity == pytest.approx(drawn / real, rel=0.1)


def test_the_same_seed_gives_the_same_measures() -> None:
    assert measured("z") == measured("z")
