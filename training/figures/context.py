"""What the figures are drawn from: a run's model, and a sample of its data set's test images as the model sees them."""

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
"""Test images that are encoded; more would only cover each other in a scatter plot."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Some images with their labels and posterior means."""

    split: Split
    """The images, in random order, and their labels."""
    predictions: Int[Tensor, "images factors"]
    """The most probable classes."""
    u: Float[Tensor, "images u_dim"]
    """Means of all u_k, given the most probable classes."""
    z: Gaussian
    """q(z | x), [images, z_dim]."""
    use_labels: tuple[bool, ...]
    """For each factor, whether labels name the model's classes; where it saw none, classes are of its own making."""

    def latents(self, indices: Int[Tensor, " chosen"]) -> Latents:
        """Return the posterior means of some of the images."""
        return Latents(self.u[indices], self.z.mean[indices])

    def latents_of(self, index: int) -> Latents:
        """Return the posterior means of one image, vectors."""
        return Latents(self.u[index], self.z.mean[index])

    def classes(self, k: int) -> Int[Tensor, " images"]:
        """Return the class of each image: its label, or where it has none the most probable class."""
        predicted, labels = self.predictions[:, k], self.split.labels[:, k]
        return torch.where(labels == UNLABELLED, predicted, labels) if self.use_labels[k] else predicted

    def recognised(self, k: int) -> Int[Tensor, " images"]:
        """Return the class of each image that the model recognises, and -1 for the others.

        Traversals start at these: an image that the model takes for another class shows that mistake, not the class.
        A model that recognises nothing is shown by the classes that it believes in.
        """
        predicted = self.predictions[:, k]
        right = torch.where(predicted == self.classes(k), predicted, UNLABELLED)
        return predicted if (right == UNLABELLED).all() else right


class Base(NamedTuple):
    """A test image that traversals start at."""

    class_index: int
    """Its class of the main factor; -1 where there is no factor."""
    name: str
    """That class in words."""
    latents: Latents
    """Its posterior means, vectors."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A run and what is needed of it; each part is loaded when a figure first asks for it."""

    run: RunDirectory
    """The run."""
    data_dir: Path
    """Folder of the data sets."""
    seed: int
    """Decides which test images are shown, and what is drawn from the priors."""

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
    def encoded(self) -> Encoded:
        """At most SAMPLE random test images as the model sees them."""
        test = load_run_dataset(self.run, self.data_dir).test
        if not len(test):
            raise ValueError(f"{self.config.dataset} has no test images, and the figures show test images; add some")
        return encode_sample(self.model, test, self.config, self.label_counts, self.generator())

    @cached_property
    def label_counts(self) -> dict[str, int]:
        """Labels of each factor that training had."""
        return self.run.load_label_counts()

    @property
    def factors(self) -> tuple[FactorConfig, ...]:
        """The class variables, with classes that are numbered where no label ever gave them their names' meaning."""
        return tuple(named_classes(factor, self.label_counts[factor.name]) for factor in self.config.model.factors)

    @property
    def main_factor(self) -> int:
        """Index of the factor with the most classes: figures of one factor show it."""
        return max(range(len(self.factors)), key=lambda k: len(self.factors[k].classes))

    def generator(self) -> torch.Generator:
        """Return fresh random numbers: a figure looks the same whatever was drawn before it."""
        return torch.Generator().manual_seed(self.seed)

    def modes(self, k: int) -> Gaussian:
        """Return p(u_k | c_k = i) of every class i of factor k, [classes, u_k_dim]."""
        return list(self.model.class_factors())[k].prior_modes()

    def prior_base(self) -> Latents:
        """Return the latents that the priors hold most likely: z = 0, each u_k at its most probable class's mean."""
        means = []
        for k, factor in enumerate(self.factors):
            means.append(self.modes(k).mean[factor.prior.index(max(factor.prior))])
        return Latents(torch.cat(means), torch.zeros(self.config.model.z_dim))

    def bases(self, count: int) -> list[Base]:
        """Return at most `count` recognised test images of different classes of the main factor.

        Where there is no factor they are any test images.
        """
        encoded = self.encoded
        if not self.factors:
            return [
                Base(class_index=UNLABELLED, name=f"test image {index + 1}", latents=encoded.latents_of(index))
                for index in range(min(count, len(encoded.split)))
            ]
        k = self.main_factor
        classes = encoded.recognised(k).tolist()
        # The images' order is random already, so that the first of each class will do.
        firsts = {found: classes.index(found) for found in dict.fromkeys(classes) if found != UNLABELLED}
        factor = self.factors[k]
        return [
            Base(class_index=found, name=f"{factor.name}: {factor.classes[found]}", latents=encoded.latents_of(index))
            for found, index in list(firsts.items())[:count]
        ]


def encode_sample(
    model: PartedVAE, test: Split, config: TrainConfig, label_counts: Mapping[str, int], generator: torch.Generator
) -> Encoded:
    """Encode at most SAMPLE images of a split, in random order: files are often sorted by class."""
    split = test.take(torch.randperm(len(test), generator=generator)[:SAMPLE])
    found = [posterior for _, posterior in posteriors(model, split.images, config)]
    columns = [
        torch.cat([one.factors[k].logits for one in found]).argmax(dim=1) for k in range(len(config.model.factors))
    ]
    predictions = torch.stack(columns, dim=1) if columns else torch.empty(len(split), 0, dtype=torch.int64)
    return Encoded(
        split=split,
        predictions=predictions,
        u=torch.cat([one.u_mean for one in found]),
        z=Gaussian(torch.cat([one.z.mean for one in found]), torch.cat([one.z.logvar for one in found])),
        use_labels=tuple(label_counts[factor.name] > 0 for factor in config.model.factors),
    )


def named_classes(factor: FactorConfig, labels: int) -> FactorConfig:
    """Return the factor as it is to be shown: without labels of it in training, a class has no name but its number."""
    if labels:
        return factor
    classes = tuple(f"cluster {i + 1}" for i in range(len(factor.classes)))
    return FactorConfig(name=factor.name, classes=classes, prior=factor.prior, u_dim=factor.u_dim)
