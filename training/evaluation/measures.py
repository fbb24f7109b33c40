"""All measures of what a run's latents contain: by an oracle, by probes, and of amounts; and the warnings they give.

They take about a minute and are computed once, after training and by `partedvae evaluate`; `Evaluation` is what every
epoch can afford.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from partedvae.common.progress import progress_bar
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, ImageDataset, Split, Truth, count_labels
from partedvae.training.evaluation.evaluation import Evaluation
from partedvae.training.evaluation.metrics import amounts as amount_metric
from partedvae.training.evaluation.metrics.amounts import AmountScore, amount_r2
from partedvae.training.evaluation.metrics.generation import Generation, generation
from partedvae.training.evaluation.metrics.probes import (
    CROSS_VALIDATED_ROWS,
    FEWEST_TESTS,
    Probe,
    Separation,
    separation,
)
from partedvae.training.evaluation.metrics.representation import Latents, represent
from partedvae.training.evaluation.oracle import FEWEST_LABELS, load_oracle
from partedvae.training.evaluation.oracle import FEWEST_TESTS as ORACLE_TESTS
from partedvae.training.model.partedvae import PartedVAE

SEED = 0
"""Random seed of all measures, so that they are reproducible."""


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What the latents of a run contain."""

    generations: tuple[Generation, ...] = ()
    """What an oracle sees in decoded images, one entry per factor that it was trained for."""
    no_oracle: str = ""
    """Why factors are missing from `generations`; empty if none is."""
    separations: tuple[Separation, ...] = ()
    """Probes of u and z, one entry per factor with enough labelled images."""
    amounts: tuple[AmountScore, ...] = ()
    """Amounts that are predicted from u, where the data set was drawn with any."""

    def to_dict(self) -> dict[str, Any]:
        """Return the measures as values that JSON supports."""
        return {
            "generation": {
                g.factor: {**_without_factor(asdict(g)), "mean": g.mean, "worst": g.worst} for g in self.generations
            },
            "no_oracle": self.no_oracle,
            "probes": {
                s.factor: {
                    name: value._asdict() if isinstance(value, Probe) else value
                    for name, value in _without_factor(s._asdict()).items()
                }
                for s in self.separations
            },
            "amounts": [a._asdict() for a in self.amounts],
        }

    def flat(self) -> dict[str, float]:
        """Return the measures as numbers by name, "generation/digit", for summaries and manifests."""
        flat: dict[str, float] = {}
        for g in self.generations:
            flat[f"oracle_accuracy/{g.factor}"] = g.oracle
            if g.classes is not None and g.mean is not None and g.worst is not None:
                flat[f"generation/{g.factor}"] = g.mean
                flat[f"generation_worst/{g.factor}"] = g.worst[1]
                flat |= {f"generation/{g.factor}/{label}": share for label, share in g.classes.items()}
            for name in ("exchange", "redraw", "reconstruction", "diversity"):
                if getattr(g, name) is not None:
                    flat[f"{name}/{g.factor}"] = getattr(g, name)
        for s in self.separations:
            for name in ("u", "z", "u_samples", "z_samples"):
                probe = getattr(s, name)
                flat[f"probe_{name}_linear/{s.factor}"] = probe.linear
                flat[f"probe_{name}_mlp/{s.factor}"] = probe.mlp
            flat[f"probe_chance/{s.factor}"] = s.chance
        for a in self.amounts:
            flat[f"amount_u/{a.factor}/{a.label}"] = a.u
            flat[f"amount_z/{a.factor}/{a.label}"] = a.z
        return flat


def _without_factor(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "factor"}


def measure(
    model: PartedVAE, dataset: ImageDataset, config: TrainConfig, evaluation: Evaluation, data_dir: Path
) -> Measures:
    """Measure what the latents of a run contain.

    Args:
        model: the trained model, on any device.
        dataset: the data set of the run.
        config: the run's configuration.
        evaluation: the evaluation of the model on the test images.
        data_dir: folder of the data sets, where the oracle is stored.

    Returns:
        The measures; none for methods other than partedvae, which have no u.
    """
    if config.method != "partedvae":
        return Measures()
    oracle = load_oracle(dataset, config.model.network_size, data_dir, next(model.parameters()).device)
    supervised = {factor.name: factor.supervised for factor in evaluation.factors}
    return Measures(
        generations=generation(model, dataset, config, oracle, supervised, SEED) if oracle else (),
        no_oracle=_reason(dataset, list(oracle.accuracy) if oracle else []),
        separations=_separations(model, dataset, config),
        amounts=_amounts(model, dataset.truth, config) if dataset.truth else (),
    )


def _reason(dataset: ImageDataset, judged: list[str]) -> str:
    """Return why factors have no oracle, with their numbers of labels."""
    counts = [count_labels(split.labels) for split in (dataset.train, dataset.test)]
    missing = [
        f"{factor.name} has {train:,} labelled training and {test:,} labelled test images"
        for factor, train, test in zip(dataset.info.factors, *counts, strict=True)
        if factor.name not in judged
    ]
    if not missing:
        return ""
    return (
        f"decoded images are not judged: {'; '.join(missing)}, and an oracle needs {FEWEST_LABELS:,} and {ORACLE_TESTS}"
    )


def _separations(model: PartedVAE, dataset: ImageDataset, config: TrainConfig) -> tuple[Separation, ...]:
    test, rng = dataset.test, np.random.default_rng(SEED)
    splits = [test]
    if min(count_labels(test.labels)) < FEWEST_TESTS:
        splits.append(_some_labelled(dataset.train))
    with progress_bar(sum(map(len, splits)), unit="img", title="probing u and z") as bar:
        posteriors = [represent(model, split.images, config, bar.update) for split in splits]
    means = Latents(*(np.concatenate(parts) for parts in zip(*(p.means for p in posteriors), strict=True)))
    samples = Latents(*(np.concatenate(parts) for parts in zip(*(p.samples(rng) for p in posteriors), strict=True)))
    labels: Int[np.ndarray, "images factors"] = np.concatenate([split.labels.numpy() for split in splits])
    names = tuple(factor.name for factor in config.model.factors)
    return separation(means, samples, labels, names, SEED, len(test))


def _some_labelled(train: Split) -> Split:
    """Return labelled training images, enough for the cross-validation of every factor."""
    generator = torch.Generator().manual_seed(SEED)
    chosen = [
        known[torch.randperm(len(known), generator=generator)[:CROSS_VALIDATED_ROWS]]
        for known in (torch.nonzero(column != UNLABELLED).squeeze(1) for column in train.labels.T)
    ]
    return train.take(torch.cat(chosen).unique())


def _amounts(model: PartedVAE, truth: Truth, config: TrainConfig) -> tuple[AmountScore, ...]:
    ends = np.cumsum([factor.u_dim for factor in config.model.factors])
    columns = {f.name: slice(end - f.u_dim, end) for f, end in zip(config.model.factors, ends.tolist(), strict=True)}
    generator = torch.Generator().manual_seed(SEED)
    found = []
    for amount in truth.amounts:
        members = torch.nonzero(~amount.values.isnan()).squeeze(1)
        rows = members[torch.randperm(len(members), generator=generator)[: amount_metric.ROWS]]
        values = amount.values[rows].numpy()
        if amount.factor not in columns or len(rows) < amount_metric.FEWEST_ROWS or values.min() == values.max():
            continue
        means = represent(model, Split(images=truth.images, labels=truth.values).take(rows).images, config).means
        found.append(
            AmountScore(
                factor=amount.factor,
                label=amount.label,
                amount=amount.name,
                u=amount_r2(means.u[:, columns[amount.factor]], values, SEED),
                z=amount_r2(means.z, values, SEED),
                rows=len(rows),
            )
        )
    return tuple(found)
