"""A run and one without the Bhattacharyya term side by side: traversals (Figure 8) and densities (Figure 10)."""

from __future__ import annotations

from itertools import chain

from matplotlib.figure import Figure

from partedvae.common.flatten import flatten
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.figures.context import FigureContext
from partedvae.training.figures.factor_axes import (
    BASES,
    DENSITY_NOTE,
    MODES_NOTE,
    density_panel,
    modes_panel,
    note_of_other_dimensions,
    separating_axis,
)
from partedvae.training.figures.latents import Latents
from partedvae.training.figures.layout import Panel, draw_panels

WITH, WITHOUT = ", with BC", ", without BC"
"""Ends of the panels' titles."""


def bc_factors(context: FigureContext) -> Figure:
    """Draw Figure 8 beside the run with the term: for each factor, test images whose u_k covers its prior's range."""
    other = compared(context)
    with_bc, without_bc = _same_images(context, other)
    pairs = [
        (modes_panel(context, k, with_bc, WITH), modes_panel(other, k, without_bc, WITHOUT))
        for k in range(len(context.factors))
    ]
    return _draw(pairs, "Traversals of the u of each factor", MODES_NOTE, f"{_note(context, other)} (Figure 8.)")


def bc_prior_density(context: FigureContext) -> Figure:
    """Draw Figure 10: the modes of both runs, and images along the axis; u of one dimension has a common range."""
    other = compared(context)
    with_bc, without_bc = _same_images(context, other)
    pairs = []
    for k, factor in enumerate(context.factors):
        left, right = separating_axis(context.modes(k)), separating_axis(other.modes(k))
        if factor.u_dim == 1:
            ends = list(zip(left.covered(), right.covered(), strict=True))
            left, right = (axis._replace(limits=(min(ends[0]), max(ends[1]))) for axis in (left, right))
        pairs.append(
            (density_panel(context, k, left, with_bc, WITH), density_panel(other, k, right, without_bc, WITHOUT))
        )
    note = DENSITY_NOTE + note_of_other_dimensions(context)
    return _draw(pairs, "The mixture prior of u", note, f"{_note(context, other)} (The paper's Figure 10.)")


def compared(context: FigureContext) -> FigureContext:
    """Return the run without the Bhattacharyya term.

    Raises:
        ValueError: there is none, it has the term, or it is of other data or classes.
    """
    other = context.without_bc
    if other is None:
        raise ValueError("no run without the Bhattacharyya term is given; pass --without-bc RUN_DIR")
    option, config, reference = f"--without-bc {other.run.path}", other.config, context.config
    if config.method != "partedvae" or config.objective.gamma_bc:
        raise ValueError(
            f"{option} is a run of method {config.method!r} with objective.gamma_bc {config.objective.gamma_bc:g}; "
            "pass a run that was trained with --set objective.gamma_bc=0"
        )
    if config.dataset != reference.dataset:
        raise ValueError(
            f"{option} is a run of data set {config.dataset!r}, and {context.run.path} of {reference.dataset!r}; "
            "pass runs of one data set"
        )
    if _classes(config) != _classes(reference):
        raise ValueError(
            f"{option} has other factors, classes or dimensions of u than {context.run.path}; pass runs that differ in "
            "objective.gamma_bc alone"
        )
    return other


def _classes(config: TrainConfig) -> list[tuple[str, tuple[str, ...], int]]:
    return [(factor.name, factor.classes, factor.u_dim) for factor in config.model.factors]


def _same_images(context: FigureContext, other: FigureContext) -> tuple[list[Latents], list[Latents]]:
    """Return the latents of the same test images under both models."""
    bases = context.bases(BASES)
    return [base.latents for base in bases], [other.encoded.latents_of(base.position) for base in bases]


def _note(context: FigureContext, other: FigureContext) -> str:
    """Return a sentence with the settings in which the runs differ."""
    settings, others = flatten(context.config.to_dict()), flatten(other.config.to_dict())
    differing = [
        f"{key} {settings[key]} and {others[key]}" for key in settings if key in others and settings[key] != others[key]
    ]
    return f"Left, {context.run.path.name}; right, {other.run.path.name}: {', '.join(differing)}."


def _draw(pairs: list[tuple[Panel, Panel]], title: str, note: str, end: str) -> Figure:
    return draw_panels(
        list(chain.from_iterable(pairs)),
        title=f"{title}, with and without the Bhattacharyya term",
        note=f"{note} {end}",
        across=2,
    )
