"""What an oracle sees in decoded images: whether u determines their class, and whether they vary as real ones do.

The paper claims that u alone has the class: images drawn for a class must show it, and an image decoded from the u of
one image and the z of another must show the class of the first (its sections 1 and 5; it has pictures of both and no
numbers). The oracle (`training/evaluation/oracle.py`) is a classifier that the model has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, ImageDataset, Split
from partedvae.training.data.visibility import visible_classes
from partedvae.training.evaluation.oracle import Oracle
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.networks import preprocess
from partedvae.training.model.partedvae import PartedVAE

DRAWN_PER_CLASS = 500
"""Images drawn for a class: a share of 90 % is then known to 1.3 points."""
DRAWN_PER_LARGE_CLASS = 100
"""The same for images larger than 64x64."""
REAL_IMAGES = 2_000
"""Maximum number of test images that are decoded with their own and with other z."""
BATCH = 250
"""Images per batch; affects only memory."""
FEWEST_FOR_VARIANCE = 10
"""Fewest real test images of a class whose variance is compared."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What the oracle sees of one factor, as shares in [0, 1]."""

    factor: str
    """Name of the factor."""
    oracle: float
    """The oracle's own accuracy on the test images, an upper bound of what can be measured."""
    classes: dict[str, float] | None
    """Share of the images drawn for a class, u ~ p(u | c) and z ~ N(0, I), that are seen as that class; the classes of
    other factors are drawn from their priors. None without training labels: clusters have no names."""
    exchange: float
    """Share of the images decoded from the u of one test image and the z of another that show the class of the first.
    As in `redraw` and `reconstruction`, u and z are posterior means, u given the most probable class."""
    redraw: float
    """The same with z ~ N(0, I)."""
    reconstruction: float
    """The same with the z of the image itself."""
    diversity: float | None
    """Variance within a class of drawn images over that of test images: the pixels' variances summed over pixels and
    averaged over classes. None where `classes` is."""

    @property
    def mean(self) -> float | None:
        """Mean of `classes`."""
        return sum(self.classes.values()) / len(self.classes) if self.classes else None

    @property
    def worst(self) -> tuple[str, float] | None:
        """The class with the smallest share, and that share."""
        return min(self.classes.items(), key=lambda item: item[1]) if self.classes else None


class _Drawn(NamedTuple):
    """Measures of the images drawn for the classes of a factor."""

    shares: list[float]
    variances: list[float]


@torch.no_grad()
def generation(
    model: PartedVAE,
    dataset: ImageDataset,
    config: TrainConfig,
    oracle: Oracle,
    supervised: dict[str, bool],
    seed: int,
) -> tuple[Generation, ...]:
    """Return the measures of every factor that the oracle was trained for.

    Args:
        model: the trained model, of method partedvae, on the device of the oracle.
        dataset: the data set; its test images are decoded.
        config: the run's configuration.
        oracle: judges the decoded images.
        supervised: whether training had labels of each factor.
        seed: random seed of the drawn latents and of the pairs.
    """
    judge = _Judge(model, config, oracle, torch.Generator().manual_seed(seed))
    # At random, because the files of a folder are often sorted by class.
    images = torch.randperm(len(dataset.test), generator=judge.generator)[:REAL_IMAGES]
    seen = judge.exchanges(dataset.test, images)
    found = []
    for k, factor in enumerate(config.model.factors):
        if factor.name not in oracle.accuracy:
            continue
        labels = dataset.test.labels[images, k]
        known = labels != UNLABELLED
        shares = {name: _share(classes[known, k] == labels[known]) for name, classes in seen.items()}
        drawn = judge.drawn(k, dataset.train.labels) if supervised[factor.name] else None
        found.append(
            Generation(
                factor=factor.name,
                oracle=oracle.accuracy[factor.name],
                classes=None if drawn is None else dict(zip(factor.classes, drawn.shares, strict=True)),
                diversity=None if drawn is None else judge.diversity(k, drawn.variances, dataset.test),
                **shares,
            )
        )
    return tuple(found)


class _Judge:
    """The model, the oracle and the random numbers of one measurement."""

    def __init__(self, model: PartedVAE, config: TrainConfig, oracle: Oracle, generator: torch.Generator) -> None:
        self.model = model
        self.config = config
        self.oracle = oracle
        self.generator = generator
        self.device = next(model.parameters()).device

    def exchanges(self, test: Split, images: Int[Tensor, " images"]) -> dict[str, Int[Tensor, "images factors"]]:
        """Return the classes seen in these test images decoded with the z of another one, a drawn z, and their own."""
        count = len(images)
        u, z = [], []
        for indices in images.split(BATCH):
            pixels = preprocess(test.images[indices].to(self.device), self.config.model.network_size)
            posterior = self.model.encode(pixels, slope=self.config.schedule.attention_slope)
            u.append(posterior.u_mean)
            z.append(posterior.z.mean)
        u_mean, z_mean = torch.cat(u), torch.cat(z)
        # Every image gets the z of another one: a shuffled cycle has no fixed point.
        order = torch.randperm(count, generator=self.generator)
        partner = torch.empty_like(order)
        partner[order] = order.roll(1)
        variants = {
            "exchange": z_mean[partner.to(self.device)],
            "redraw": self._normal(z_mean),
            "reconstruction": z_mean,
        }
        return {name: self._seen(u_mean, variant) for name, variant in variants.items()}

    def drawn(self, k: int, train_labels: Int[Tensor, "images factors"]) -> _Drawn:
        """Draw images for every class of factor k."""
        size = self.config.model.network_size
        count = DRAWN_PER_CLASS if max(size) <= 64 else DRAWN_PER_LARGE_CLASS
        shares, variances = [], []
        for label in range(len(self.config.model.factors[k].classes)):
            u = self._draw_u(k, label, count, train_labels)
            z = self._normal(torch.empty(count, self.config.model.z_dim, device=self.device))
            sums = _Moments()
            correct = 0
            for pixels in self._decoded(u, z):
                correct += int((self.oracle.classify(pixels)[:, k] == label).sum())
                sums.add(pixels)
            shares.append(correct / count)
            variances.append(sums.variance())
        return _Drawn(shares, variances)

    def diversity(self, k: int, drawn: list[float], test: Split) -> float | None:
        """Return the mean variance of drawn images over that of test images, over the classes with enough of both."""
        real, compared = [], []
        for label, variance in enumerate(drawn):
            members = torch.nonzero(test.labels[:, k] == label).squeeze(1)[:DRAWN_PER_CLASS]
            if len(members) < FEWEST_FOR_VARIANCE:
                continue
            sums = _Moments()
            for indices in members.split(BATCH):
                sums.add(preprocess(test.images[indices].to(self.device), self.config.model.network_size))
            real.append(sums.variance())
            compared.append(variance)
        return sum(compared) / sum(real) if sum(real) else None

    def _draw_u(
        self, k: int, label: int, count: int, train_labels: Int[Tensor, "images factors"]
    ) -> Float[Tensor, "count u_dim"]:
        """Draw u of all factors: factor k of one class, the others of classes from their priors."""
        drawn = []
        for j, module in enumerate(self.model.class_factors()):
            if j == k:
                classes = torch.full((count,), label)
            else:
                # No oracle can see the colour of hair under a hat: hats are not drawn when it is judged.
                probs = module.prior_probs.cpu() * visible_classes(train_labels, k, j, len(module.prior_probs))
                classes = torch.multinomial(probs, count, replacement=True, generator=self.generator)
            modes = module.prior_modes()
            chosen = Gaussian(modes.mean[classes.to(self.device)], modes.logvar[classes.to(self.device)])
            drawn.append(chosen.mean + torch.exp(0.5 * chosen.logvar) * self._normal(chosen.mean))
        return torch.cat(drawn, dim=1)

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator).to(self.device)

    def _decoded(self, u: Tensor, z: Tensor) -> Iterator[Float[Tensor, "batch channels height width"]]:
        for u_batch, z_batch in zip(u.split(BATCH), z.split(BATCH), strict=True):
            yield self.model.decoder(u_batch, z_batch)

    def _seen(self, u: Tensor, z: Tensor) -> Int[Tensor, "images factors"]:
        return torch.cat([self.oracle.classify(pixels).cpu() for pixels in self._decoded(u, z)])


def _share(hits: Bool[Tensor, " images"]) -> float:
    return hits.double().mean().item()


class _Moments:
    """Variance of images, summed over their pixels, from batches."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, pixels: Float[Tensor, "batch channels height width"]) -> None:
        """Add a batch."""
        self._count += len(pixels)
        self._sum = self._sum + pixels.double().sum(dim=0)
        self._squares = self._squares + pixels.double().square().sum(dim=0)

    def variance(self) -> float:
        """Return the variance of each pixel, summed over pixels."""
        mean = torch.as_tensor(self._sum) / self._count
        return (torch.as_tensor(self._squares) / self._count - mean.square()).sum().item()
