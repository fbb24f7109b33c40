"""All figures by name, and drawing those of a run that fit it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from partedvae.common.atomic_write import atomic_write
from partedvae.common.suggest import lookup
from partedvae.training.figures import embedding, factor_axes, losses, samples, traversals
from partedvae.training.figures.context import Subject
from partedvae.training.runs.directory import RunDirectory

Misfit = Callable[[Subject], str | None]
"""Tells why a run has no such figure; None where it has."""


def images(subject: Subject) -> str | None:
    """Refuse figures of decoded images and latents where the method trains neither."""
    return "method 'classifier' trains no decoder and no latents" if subject.config.method == "classifier" else None


def classes(subject: Subject) -> str | None:
    """Refuse figures of classes to the baselines, which have z alone."""
    without = None if subject.factors else f"method {subject.config.method!r} has no classes"
    return images(subject) or without


def axes_of_u(subject: Subject) -> str | None:
    """Refuse an axis for each factor where there is one factor, with many dimensions: one axis would not show it."""
    if classes(subject) or len(subject.factors) > 1 or subject.factors[0].u_dim == 1:
        return classes(subject)
    return (
        "it shows several factors, or a u of one dimension, and this run has one factor with a u of "
        f"{subject.factors[0].u_dim}; traversal_u shows its classes"
    )


def epochs(subject: Subject) -> str | None:
    """Refuse figures of the training before an epoch has ended."""
    return None if losses.read_metrics(subject.run) else "no epoch of it has ended: there is no metrics.jsonl"


class FigureKind(NamedTuple):
    """One figure."""

    draw: Callable[[Subject], Figure]
    """Computes and draws it."""
    misfit: Misfit
    """Tells why a run cannot have it."""


FIGURES: dict[str, FigureKind] = {
    "traversal_z": FigureKind(traversals.traversal_z, images),
    "traversal_u": FigureKind(traversals.traversal_u, classes),
    "transfer": FigureKind(samples.attribute_transfer, classes),
    "factors": FigureKind(factor_axes.factors, axes_of_u),
    "prior_density": FigureKind(factor_axes.prior_density, classes),
    "class_traversals": FigureKind(traversals.class_traversals, classes),
    "reconstructions": FigureKind(samples.reconstructions, images),
    "prior_samples": FigureKind(samples.prior_samples, classes),
    "losses": FigureKind(losses.losses, epochs),
    "embedding": FigureKind(embedding.embedding, classes),
}


def draw_run(
    run_dir: Path, output: Path | None, data_dir: Path, *, seed: int = 0, only: Sequence[str] = ()
) -> Iterator[Path]:
    """Draw a run's figures, yielding each file when it is there.

    Args:
        run_dir: a run directory with a checkpoint.
        output: folder to write to; None is `figures` in the run directory.
        data_dir: folder of the data sets.
        seed: decides which test images are shown, and what is drawn from the priors.
        only: names of figures to draw; empty draws all that fit.

    Raises:
        ValueError: the run or its data set cannot be had, no figure has such a name, or one does not fit the run.
    """
    subject = Subject(run=RunDirectory(run_dir), data_dir=data_dir, seed=seed)
    chosen = {name: lookup("figure", name, FIGURES) for name in only or FIGURES}
    misfits = {name: kind.misfit(subject) for name, kind in chosen.items()}
    for name, reason in misfits.items():
        if reason and only:
            raise ValueError(f"--only {name} does not fit {run_dir}: {reason}")
    folder = output or run_dir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in chosen.items():
        if misfits[name] is None:
            yield _draw(subject, kind, folder / f"{name}.png")


def _draw(subject: Subject, kind: FigureKind, path: Path) -> Path:
    # A user's own matplotlibrc must not change the figures; and no class name is a formula.
    with style.context(["default", {"text.parse_math": False}]):
        canvas = FigureCanvasAgg(kind.draw(subject))
        canvas.draw()
    page = np.asarray(canvas.buffer_rgba())[..., :3]
    is_grey = bool((page == page[..., :1]).all())
    picture = Image.fromarray(np.ascontiguousarray(page[..., 0] if is_grey else page))
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
    return path
