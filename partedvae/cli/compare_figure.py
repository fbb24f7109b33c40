"""The figure of `partedvae compare`: the metrics of several runs per epoch. It needs Matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from partedvae.common.atomic_write import atomic_write
from partedvae.common.file_names import printable
from partedvae.common.runs.comparison import Comparison
from partedvae.common.runs.scores import metric_kind

PANELS_ACROSS = 4
PANEL_SIZE = (3.6, 2.7)
"""Width and height in inches."""
LEGEND_LINE = 0.28
"""Height of a line of the legend in inches."""
DPI = 100
DISTINCT_COLOURS = 10
"""Colours of tab10; more runs have colours along a scale, in their order."""


def check_format(output: Path) -> None:
    """Check that Matplotlib writes files of this name.

    Raises:
        click.UsageError: it does not.
    """
    if output.suffix.lower().removeprefix(".") not in Figure().canvas.get_supported_filetypes():
        raise click.UsageError(f"--output {str(output)!r} has no suffix of a picture; use .png, .pdf or .svg")


def draw_curves(comparison: Comparison, output: Path) -> None:
    """Draw one panel per metric, with a curve per run.

    Args:
        comparison: the runs.
        output: the file; its folder is created where it is missing.

    Raises:
        ValueError: no run has ended an epoch.
        OSError: the file cannot be written.
    """
    figure = curves(comparison)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as temporary:
        figure.savefig(temporary, format=output.suffix.lower().removeprefix("."))


def curves(comparison: Comparison) -> Figure:
    """Return the figure of `draw_curves`."""
    names = comparison.curve_names
    if not names:
        raise ValueError("there are no curves to draw: no run has ended an epoch yet; wait, or omit --output")
    lines = -(-len(names) // PANELS_ACROSS)
    legend_lines = -(-len(comparison.runs) // PANELS_ACROSS)
    size = (PANEL_SIZE[0] * PANELS_ACROSS, PANEL_SIZE[1] * lines + LEGEND_LINE * (legend_lines + 1))
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
    grid = figure.subplots(lines, PANELS_ACROSS, squeeze=False).flatten()
    for axes, name in zip(grid, names, strict=False):
        _draw(axes, name, comparison)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    handles = [Line2D([], [], color=colour) for colour in _colours(len(comparison.runs))]
    # A label that begins with an underscore would be left out.
    labels = [f" {printable(name)}" for name in comparison.names]
    legend = figure.legend(handles, labels, loc="outside upper left", ncols=PANELS_ACROSS, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _draw(axes: Axes, name: str, comparison: Comparison) -> None:
    for run, colour in zip(comparison.runs, _colours(len(comparison.runs)), strict=True):
        points = run.curve(name)
        # A marker shows the only epoch of a run.
        axes.plot([epoch for epoch, _ in points], [value for _, value in points], "o-", color=colour, markersize=3)
    axes.set_title(name, fontsize=10, parse_math=False)
    axes.set_xlabel("epoch", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if metric_kind(name).is_share:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9")


def _colours(count: int) -> list[Any]:
    if count <= DISTINCT_COLOURS:
        return [colormaps["tab10"](i) for i in range(count)]
    return [colormaps["viridis"](i / (count - 1)) for i in range(count)]
