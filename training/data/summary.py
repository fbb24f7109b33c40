"""Summary of a data set as text: counts, sizes, classes, memory and origin."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from partedvae.common.text_tables import table_lines
from partedvae.training.data.dataset import UNLABELLED, Chosen, ImageDataset, Images, Split, size_text
from partedvae.training.data.registry import ENTRIES

SAMPLE = 64
"""Images per split for the statistics of pixels."""


def list_datasets(data_dir: Path) -> str:
    """Return a table of all data sets: name, image size, factors, availability, summary."""
    rows = [("name", "image", "factors", "state", "")]
    for name, entry in ENTRIES.items():
        info = entry.describe(data_dir)
        factors = f"{info.factors[0].name} ({len(info.factors[0].classes)})"
        if len(info.factors) > 1:
            factors = f"{len(info.factors)} factors"
        rows.append((name, size_text(info.image_size), factors, entry.state(data_dir), entry.summary))
    rows.append(("folder:PATH", "32, 64 or 218x178", "yours", "", "your own images, some labelled in PATH/labels.csv"))
    return "\n".join(table_lines(rows))


def summarise(dataset: ImageDataset) -> str:
    """Return a summary of a data set, with statistics of a sample of its images.

    Raises:
        DataError: a sampled image cannot be read.
    """
    info = dataset.info
    lines = [f"{info.name}: {size_text(info.image_size)}, {'grey' if info.image_size[2] == 1 else 'RGB'}"]
    for title, split in (("train", dataset.train), ("test", dataset.test)):
        mean, deviation = _statistics(split.images)
        lines.append(
            f"{title}: {len(split):,} images, {_memory(split.images)}; pixels {mean:.3f} ± {deviation:.3f} of 1"
        )
    for column, factor in enumerate(info.factors):
        prior = "" if factor.prior is None else ", p(c) " + " ".join(f"{p:.2f}" for p in factor.prior)
        lines.append(f"factor {factor.name}: {len(factor.classes)} classes{prior}")
        counts = [_class_counts(split, column, len(factor.classes)) for split in (dataset.train, dataset.test)]
        names = (*factor.classes, "(not labelled)")
        width = max(len(name) for name in names)
        lines += [
            f"  {name.ljust(width)}  train {train:>7,}  test {test:>7,}"
            for name, train, test in zip(names, *counts, strict=True)
        ]
    if dataset.truth is not None:
        sizes = dataset.truth.values.max(dim=0).values + 1
        pairs = zip(dataset.truth.names, sizes.tolist(), strict=True)
        lines.append("true factors: " + ", ".join(f"{name} {size}" for name, size in pairs))
    lines += [f"source: {name}: {origin}" for name, origin in dataset.source.items()]
    lines += [f"note: {note}" for note in dataset.notes]
    return "\n".join(lines)


def _class_counts(split: Split, column: int, classes: int) -> list[int]:
    """Return the number of images of each class, then of those without a label."""
    labels = split.labels[:, column]
    counts: list[int] = torch.bincount(labels[labels != UNLABELLED], minlength=classes).tolist()
    return [*counts, int((labels == UNLABELLED).sum())]


def _statistics(images: Images) -> tuple[float, float]:
    """Return mean and standard deviation of the pixels, as fractions of 255, of images evenly spread over a split."""
    if not len(images):
        return 0.0, 0.0
    sample = images[torch.linspace(0, len(images) - 1, min(SAMPLE, len(images))).long()].float() / 255
    return sample.mean().item(), sample.std().item()


def _memory(images: Images) -> str:
    if isinstance(images, Tensor):
        return f"{images.nbytes / 1e6:,.1f} MB in memory"
    if isinstance(images, Chosen):
        return _memory(images.source)
    return str(getattr(images, "memory", "created on access"))
