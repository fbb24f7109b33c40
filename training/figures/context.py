"""The inputs of all figures: a run's model and a sample of encoded test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partedvae.training.config.architecture import FactorConfig
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, Split
from partedvae.training.evaluation.evaluation import posteriors
from partedvae.training.figures.latents import Latents
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.data import load_run_dataset
from partedvae.training.runs.directory import RunDirectory

SAMPLE = 3000
"""Largest number of test images that are encoded; more would overlap in a scatter plot."""


@dataclass(frozen=True, kw_only=True)
class EncodedImages:
    """Images with their labels and posteriors."""

    split: Split
    """The images, in random order, and their labels."""
    predictions: Int[Tensor, "images factors"]
    """The most probable classes."""
    u: Float[Tensor, "images u_dim"]
    """Means of all u_k, given the most probable classes."""
    z: Gaussian
    """q(z | x), [images, z_dim]."""
    use_labels: tuple[bool, ...]
    """For each factor, whether training had labels of it; without labels, its classes are clusters in any order."""

    def latents(self, indices: Int[Tensor, " chosen"]) -> Latents:
        """Return the posterior means of the images at some indices."""
        return Latents(self.u[indices], self.z.mean[indices])

    def latents_of(self, index: int) -> Latents:
        """Return the posterior means of one image, without a batch dimension."""
        return Latents(self.u[index], self.z.mean[index])

    def classes(self, k: int) -> Int[Tensor, " images"]:
        """Return the class of each image: its label, or the most probable class where it has no label."""
        predicted, labels = self.predictions[:, k], self.split.labels[:, k]
        return torch.where(labels == UNLABELLED, predicted, labels) if self.use_labels[k] else predicted

    def recognised(self, k: int) -> Int[Tensor, " images"]:
        """Return the class of each correctly classified image, and -1 for the others.

        Traversals start at these: a misclassified image shows the mistake and not its class. Where no image is
        classified correctly, the predicted classes are returned.
        """
        predicted = self.predictions[:, k]
        right = torch.where(predicted == self.classes(k), predicted, UNLABELLED)
        return predicted if (right == UNLABELLED).all() else right


class Base(NamedTuple):
    """A test image at which traversals start."""

    class_index: int
    """Class of the main factor; -1 where there is no factor."""
    name: str
    """Title that names the class."""
    latents: Latents
    """Posterior means, without a batch dimension."""
    position: int
    """Position among the encoded images, which runs of one data set share."""


@dataclass(frozen=True, kw_only=True)
class FigureContext:
    """A run and the parts that figures use; each part is loaded when it is first used."""

    run: RunDirectory
    """Directory of the run."""
    data_dir: Path
    """Folder of the data sets."""
    seed: int
    """Random seed of the choice of test images and of the samples from the priors."""
    dataset: str | None = None
    """Name of the data set where its folder has moved; None takes that of the run."""
    without_bc: FigureContext | None = None
    """The run without the Bhattacharyya term to compare with, if there is one."""

    @cached_property
    def config(self) -> TrainConfig:
        """The run's configuration."""
        return self.run.load_config()

    @cached_property
    def model(self) -> PartedVAE:
        """The run's final model, on the CPU."""
        model, _ = self.run.load_model(torch.device("cpu"))
        return model.requires_grad_(False)

    @cached_property
    def encoded(self) -> EncodedImages:
        """At most SAMPLE random test images, encoded."""
        test = load_run_dataset(self.run, self.data_dir, self.dataset).test
        if not len(test):
            raise ValueError(f"{self.config.dataset} has no test images, which the figures show; add some")
        return encode_sample(self.model, test, self.config, self.label_counts, self.generator())

    @cached_property
    def label_counts(self) -> dict[str, int]:
        """Number of training labels of each factor."""
        return self.run.load_label_counts()

    @property
    def factors(self) -> tuple[FactorConfig, ...]:
        """The class variables; the classes of a factor without training labels are numbered instead of named."""
        return tuple(named_classes(factor, self.label_counts[factor.name]) for factor in self.config.model.factors)

    @property
    def main_factor(self) -> int:
        """Index of the factor with the most classes, which figures of a single factor show."""
        return max(range(len(self.factors)), key=lambda k: len(self.factors[k].classes))

    def generator(self) -> torch.Generator:
        """Return a newly seeded generator: a figure does not depend on the figures drawn before it."""
        return torch.Generator().manual_seed(self.seed)

    def modes(self, k: int) -> Gaussian:
        """Return p(u_k | c_k = i) of every class i of factor k, [classes, u_k_dim]."""
        return list(self.model.class_factors())[k].prior_modes()

    def prior_base(self) -> Latents:
        """Return the most probable latents of the priors: z = 0, each u_k at the mean of its most probable class."""
        means = []
        for k, factor in enumerate(self.factors):
            means.append(self.modes(k).mean[factor.prior.index(max(factor.prior))])
        return Latents(torch.cat(means), torch.zeros(self.config.model.z_dim))

    def bases(self, count: int) -> list[Base]:
        """Return at most `count` correctly classified test images of different classes of the main factor.

        Without factors, any test images are returned.
        """
        encoded = self.encoded
        if not self.factors:
            return [
                Base(
                    class_index=UNLABELLED,
                    name=f"test image {index + 1}",
                    latents=encoded.latents_of(index),
                    position=index,
                )
                for index in range(min(count, len(encoded.split)))
            ]
        k = self.main_factor
        classes = encoded.recognised(k).tolist()
        # The images are in random order already, so the first image of each class is a random one.
        firsts = {found: classes.index(found) for found in dict.fromkeys(classes) if found != UNLABELLED}
        factor = self.factors[k]
        return [
            Base(
                class_index=found,
                name=f"{factor.name}: {factor.classes[found]}",
                latents=encoded.latents_of(index),
                position=index,
            )
            for found, index in list(firsts.items())[:count]
        ]


def encode_sample(
    model: PartedVAE, test: Split, config: TrainConfig, label_counts: Mapping[str, int], generator: torch.Generator
) -> EncodedImages:
    """Encode at most SAMPLE images of a split in random order, because files are often sorted by class.

    Args:
        model: the trained model.
        test: the split.
        config: the run's configuration.
        label_counts: number of training labels of each factor.
        generator: draws the sample.
    """
    split = test.take(torch.randperm(len(test), generator=generator)[:SAMPLE])
    found = [posterior for _, posterior in posteriors(model, split.images, config)]
    columns = [
        torch.cat([one.factors[k].logits for one in found]).argmax(dim=1) for k in range(len(config.model.factors))
    ]
    predictions = torch.stack(columns, dim=1) if columns else torch.empty(len(split), 0, dtype=torch.int64)
    return EncodedImages(
        split=split,
        predictions=predictions,
        u=torch.cat([one.u_mean for one in found]),
        z=Gaussian(torch.cat([one.z.mean for one in found]), torch.cat([one.z.logvar for one in found])),
        use_labels=tuple(label_counts[factor.name] > 0 for factor in config.model.factors),
    )


def named_classes(factor: FactorConfig, labels: int) -> FactorConfig:
    """Return a factor with the class names to display: numbered clusters if it had no labels in training."""
    if labels:
        return factor
    classes = tuple(f"cluster {i + 1}" for i in range(len(factor.classes)))
    return FactorConfig(name=factor.name, classes=classes, prior=factor.prior, u_dim=factor.u_dim)
