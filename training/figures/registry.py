"""The figures by name, and the function that draws those of a run."""

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
from partedvae.common.runs.stored_run import read_metrics
from partedvae.common.suggest import lookup
from partedvae.training.figures import bc_comparison, embedding, factor_axes, losses, samples, traversals
from partedvae.training.figures.context import FigureContext
from partedvae.training.runs.directory import RunDirectory


def _requires_decoder(context: FigureContext) -> str | None:
    """Skip figures of decoded images and latents for the method that trains neither."""
    return "method 'classifier' trains no decoder and no latents" if context.config.method == "classifier" else None


def _requires_classes(context: FigureContext) -> str | None:
    """Skip figures of classes for the baselines, which have z alone."""
    no_classes = None if context.factors else f"method {context.config.method!r} has no classes"
    return _requires_decoder(context) or no_classes


def _requires_one_axis_per_factor(context: FigureContext) -> str | None:
    """Skip the figure of one axis per factor for a single factor of many dimensions, which one axis does not show."""
    if _requires_classes(context) or len(context.factors) > 1 or context.factors[0].u_dim == 1:
        return _requires_classes(context)
    return (
        "it needs several factors or a u of one dimension, and this run has one factor with a u of "
        f"{context.factors[0].u_dim} dimensions; see traversal_u for its classes"
    )


def _requires_two_runs(context: FigureContext) -> str | None:
    """Skip the comparison with a run without the Bhattacharyya term where none is given."""
    missing = "it compares the run with one without the Bhattacharyya term; pass --without-bc RUN_DIR"
    return _requires_classes(context) or (None if context.without_bc else missing)


def _requires_metrics(context: FigureContext) -> str | None:
    """Skip training curves before the end of the first epoch."""
    return None if read_metrics(context.run.metrics_file) else "no epoch has ended yet (there is no metrics.jsonl)"


class FigureKind(NamedTuple):
    """One figure."""

    draw: Callable[[FigureContext], Figure]
    """Computes and draws the figure."""
    skip_reason: Callable[[FigureContext], str | None]
    """Returns why the figure cannot be drawn for a run; None where it can."""


FIGURES: dict[str, FigureKind] = {
    "traversal_z": FigureKind(traversals.traversal_z, _requires_decoder),
    "traversal_u": FigureKind(traversals.traversal_u, _requires_classes),
    "transfer": FigureKind(samples.attribute_transfer, _requires_classes),
    "factors": FigureKind(factor_axes.factors, _requires_one_axis_per_factor),
    "prior_density": FigureKind(factor_axes.prior_density, _requires_classes),
    "bc_factors": FigureKind(bc_comparison.bc_factors, _requires_two_runs),
    "bc_prior_density": FigureKind(bc_comparison.bc_prior_density, _requires_two_runs),
    "class_traversals": FigureKind(traversals.class_traversals, _requires_classes),
    "reconstructions": FigureKind(samples.reconstructions, _requires_decoder),
    "prior_samples": FigureKind(samples.prior_samples, _requires_classes),
    "losses": FigureKind(losses.losses, _requires_metrics),
    "embedding": FigureKind(embedding.embedding, _requires_classes),
}


def draw_run(
    run_dir: Path,
    output: Path | None,
    data_dir: Path,
    *,
    dataset: str | None = None,
    seed: int = 0,
    only: Sequence[str] = (),
    without_bc: Path | None = None,
) -> Iterator[Path]:
    """Draw a run's figures and yield the path of each file as soon as it is written.

    Args:
        run_dir: a run directory with a checkpoint.
        output: folder to write to; None is `figures` in the run directory.
        data_dir: folder of the data sets.
        dataset: name of the data set where its folder has moved; None takes that of the run.
        seed: random seed of the choice of test images and of the samples from the priors.
        only: names of the figures to draw; empty draws all that apply to the run.
        without_bc: run directory of the same data set, trained without the Bhattacharyya term, to compare with.

    Raises:
        ValueError: a run or its data set is not available, the runs cannot be compared, a figure is unknown, or a
            named one does not apply.
    """
    other = None
    if without_bc:
        other = FigureContext(run=RunDirectory(without_bc), data_dir=data_dir, dataset=dataset, seed=seed)
    context = FigureContext(run=RunDirectory(run_dir), data_dir=data_dir, dataset=dataset, seed=seed, without_bc=other)
    if other:
        bc_comparison.compared(context)
    chosen = {name: lookup("figure", name, FIGURES) for name in only or FIGURES}
    skip_reasons = {name: kind.skip_reason(context) for name, kind in chosen.items()}
    for name, reason in skip_reasons.items():
        if reason and only:
            raise ValueError(f"--only {name} does not apply to {run_dir}: {reason}")
    folder = output or run_dir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in chosen.items():
        if skip_reasons[name] is None:
            yield _draw(context, kind, folder / f"{name}.png")


def _draw(context: FigureContext, kind: FigureKind, path: Path) -> Path:
    # Ignore the user's matplotlibrc, and do not parse class names as formulas.
    with style.context(["default", {"text.parse_math": False}]):
        canvas = FigureCanvasAgg(kind.draw(context))
        canvas.draw()
    page = np.asarray(canvas.buffer_rgba())[..., :3]
    is_grey = bool((page == page[..., :1]).all())
    picture = Image.fromarray(np.ascontiguousarray(page[..., 0] if is_grey else page))
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
    return path
