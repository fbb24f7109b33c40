"""Panels of images on a white page, aligned to whole pixels so that images are not resampled."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

DPI = 100
"""Pixels per inch; a point is 1.39 pixels."""
WIDTH, LEAST_WIDTH = 1400, 900
"""Maximum and minimum width of a page in pixels; a README shows it at about two thirds."""
MARGIN, SPACE, GAP, LEAD_GAP = 16, 28, 2, 12
"""Pixels around the page, between panels, between images, and after leading rows and columns."""
LARGEST = 112
"""Maximum width of an image in pixels."""
TONE = 4
"""Quantisation step of the brightness (0 to 255) of interpolated images."""
TITLE, TEXT = 15, 11
"""Font sizes in points."""
LINE, CHARACTER = 20, 8.6
"""Height of a line of text and approximate width of a character, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A grid of images with its labels."""

    images: UInt8[Tensor, "rows columns height width channels"]
    """Grey or RGB."""
    title: str = ""
    """Title above the panel."""
    row_labels: Sequence[str] = ()
    """Labels on the left: none, or one per row."""
    column_labels: Sequence[str] = ()
    """Labels above the images: none, or one per column; a label may be empty."""
    lead: int = 0
    """Number of leading rows and columns that are set apart from the others."""
    plot: Callable[[Axes], None] | None = None
    """Draws a plot above the images; column i spans i - 0.5 to i + 0.5 of its x axis."""
    plot_height: int = 0
    """Height of the plot in pixels."""


@dataclass(frozen=True)
class _Grid:
    """Dimensions in pixels that all panels of a page share."""

    cell: tuple[int, int]
    """Height and width of an image."""
    lefts: tuple[int, ...]
    """Width of the row labels at each position in a line of panels."""
    title: int
    """Height of the panels' titles."""
    columns: int
    """Height of the column labels."""

    def extent(self, count: int, axis: int, lead: int) -> int:
        """Return the size of `count` images along an axis, in pixels."""
        return self.offset(count - 1, axis, lead) + self.cell[axis]

    def offset(self, index: int, axis: int, lead: int) -> int:
        """Return the position of an image along an axis, in pixels."""
        return index * (self.cell[axis] + GAP) + (LEAD_GAP if 0 < lead <= index else 0)

    def height(self, panel: Panel) -> int:
        """Return the height of a panel without its plot, in pixels."""
        return self.title + self.columns + self.extent(panel.images.shape[0], 0, panel.lead)

    def width(self, panel: Panel) -> int:
        """Return the width of a panel's images, in pixels."""
        return self.extent(panel.images.shape[1], 1, panel.lead)


def constrained_figure(width: float, height: float, *, w_pad: float, h_pad: float) -> Figure:
    """Return an empty figure with constrained layout.

    Args:
        width: width in inches.
        height: height in inches.
        w_pad: horizontal padding around axes in inches.
        h_pad: vertical padding around axes in inches.
    """
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    # The stubs of matplotlib do not know which layout engine is in use.
    figure.get_layout_engine().set(w_pad=w_pad, h_pad=h_pad)  # type: ignore[union-attr, call-arg]  # the constrained one
    return figure


def balanced(count: int, most: int) -> int:
    """Return the number of panels per line, at most `most`, that fills lines evenly with `count` panels."""
    return math.ceil(count / math.ceil(count / most))


def draw_panels(panels: Sequence[Panel], *, title: str, note: str, across: int = 1) -> Figure:
    """Draw a page of panels.

    Args:
        panels: the panels, in reading order.
        title: heading of the page.
        note: explanation below the title.
        across: number of panels per line.
    """
    grid = _measure(panels, across)
    lines = [panels[start : start + across] for start in range(0, len(panels), across)]
    plots = [max(panel.plot_height for panel in line) for line in lines]
    heights = [max(map(grid.height, line)) + plot for line, plot in zip(lines, plots, strict=True)]
    widest = max(grid.width(panel) for panel in panels)
    # Left edges of the images at each position in a line, after the previous panels and the panel's own row labels.
    starts = [MARGIN + position * (widest + SPACE) + sum(grid.lefts[: position + 1]) for position in range(across)]
    width = max(LEAST_WIDTH, starts[-1] + widest + MARGIN)
    note_lines = textwrap.wrap(note, int((width - 2 * MARGIN) / CHARACTER))
    top = MARGIN + 34 + len(note_lines) * LINE + SPACE // 2
    page = _Page(width, top + sum(heights) + (len(lines) - 1) * SPACE + MARGIN)
    page.text(MARGIN, MARGIN, title, fontsize=TITLE, fontweight="bold", va="top")
    page.text(MARGIN, MARGIN + 34, "\n".join(note_lines), color="0.3", va="top", linespacing=1.3)
    for line, height, plot in zip(lines, heights, plots, strict=True):
        for panel, left in zip(line, starts, strict=False):
            _draw_panel(page, panel, grid, left, top, plot)
        top += height + SPACE
    return page.figure


class _Page:
    """A figure with coordinates in pixels from the top left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")

    def text(self, x: int, y: int, text: str, **options: Any) -> None:
        self.figure.text(
            x / self.width, 1 - y / self.height, text, **{"fontsize": TEXT, "parse_math": False, **options}
        )

    def axes(self, x: int, y: int, width: int, height: int) -> Axes:
        return self.figure.add_axes(
            (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        )


def _measure(panels: Sequence[Panel], across: int) -> _Grid:
    lefts = tuple(max(_label_width(panel) for panel in panels[position::across]) for position in range(across))
    columns = max(panel.images.shape[1] for panel in panels)
    available = WIDTH - 2 * MARGIN - (across - 1) * SPACE - sum(lefts)
    cell = cell_size(panels[0].images.shape[2:4], available // (across * columns) - GAP)
    return _Grid(
        cell=cell,
        lefts=lefts,
        title=LINE + 6 if any(panel.title for panel in panels) else 0,
        columns=LINE * max(_label_lines(panel, cell[1]) for panel in panels),
    )


def _label_width(panel: Panel) -> int:
    longest = max(map(len, panel.row_labels), default=0)
    return math.ceil(longest * CHARACTER) + 8 if longest else 0


def _label_lines(panel: Panel, cell_width: int) -> int:
    labels = _column_labels(panel, cell_width)
    return max((text.count("\n") + 1 for _, text in labels), default=0)


def _draw_panel(page: _Page, panel: Panel, grid: _Grid, left: int, y: int, plot: int) -> None:
    rows, columns = panel.images.shape[:2]
    width = grid.width(panel)
    title = shortened(panel.title, int(width / CHARACTER))
    page.text(left, y + grid.title - 8, title, fontweight="bold", va="baseline")
    y += grid.title
    if panel.plot is not None:
        height = panel.plot_height
        axes = page.axes(left - GAP // 2, y + plot - height, width + GAP, height - 8)
        axes.set_xlim(-0.5, columns - 0.5)
        panel.plot(axes)
    y += plot + grid.columns
    for column, text in _column_labels(panel, grid.cell[1]):
        centre = left + grid.offset(column, 1, panel.lead) + grid.cell[1] // 2
        page.text(centre, y - 7, text, ha="center", va="baseline", linespacing=1.1)
    for row, text in enumerate(panel.row_labels):
        page.text(left - 8, y + grid.offset(row, 0, panel.lead) + grid.cell[0] // 2, text, ha="right", va="center")
    axes = page.axes(left, y, width, grid.extent(rows, 0, panel.lead))
    axes.imshow(_mosaic(panel, grid), interpolation="none", aspect="auto")
    axes.set_axis_off()


def _column_labels(panel: Panel, cell_width: int) -> list[tuple[int, str]]:
    """Return column and text of the labels, wrapped so that neighbours do not overlap."""
    places = [column for column, text in enumerate(panel.column_labels) if text]
    free = min((after - before for before, after in pairwise(places)), default=len(panel.column_labels))
    characters = max(3, int(free * (cell_width + GAP) / CHARACTER))
    wrapped = [textwrap.wrap(panel.column_labels[place], characters, max_lines=2, placeholder="…") for place in places]
    return [(place, "\n".join(text)) for place, text in zip(places, wrapped, strict=True)]


def shortened(text: str, characters: int) -> str:
    """Truncate a text to a number of characters."""
    return text if len(text) <= characters else text[: max(1, characters - 1)] + "…"


def _mosaic(panel: Panel, grid: _Grid) -> UInt8[np.ndarray, "height width 3"]:
    """Return the images of a panel as one picture on a white background."""
    rows, columns, _, _, channels = panel.images.shape
    images = resized(panel.images.flatten(0, 1), grid.cell).unflatten(0, (rows, columns))
    coloured = images.expand(*images.shape[:-1], 3) if channels == 1 else images
    shape = (grid.extent(rows, 0, panel.lead), grid.extent(columns, 1, panel.lead), 3)
    canvas = np.full(shape, 255, np.uint8)
    height, width = grid.cell
    for row in range(rows):
        top = grid.offset(row, 0, panel.lead)
        for column in range(columns):
            left = grid.offset(column, 1, panel.lead)
            canvas[top : top + height, left : left + width] = coloured[row, column].numpy()
    return canvas


def cell_size(image_size: Sequence[int], available: int) -> tuple[int, int]:
    """Return the displayed height and width of images for an available width in pixels.

    Small images are enlarged by a whole factor, so that all of their pixels have the same size.
    """
    height, width = image_size
    shown = max(8, min(available, LARGEST))
    scale = shown // width if shown >= 2 * width else shown / width
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(
    images: UInt8[Tensor, "count height width channels"], size: tuple[int, int]
) -> UInt8[Tensor, "count h w c"]:
    """Resize images: by repeating pixels for a whole factor, by interpolation otherwise.

    Interpolated pixels are rounded to multiples of TONE, which is invisible and halves the size of a PNG of faces.
    """
    height, width = images.shape[1:3]
    if size[0] % height == 0 and size[1] % width == 0:
        return images.repeat_interleave(size[0] // height, dim=1).repeat_interleave(size[1] // width, dim=2)
    pixels = images.permute(0, 3, 1, 2).float()
    smooth = functional.interpolate(pixels, size=size, mode="bicubic", antialias=True, align_corners=False)
    return (TONE * (smooth.permute(0, 2, 3, 1) / TONE).round()).clamp(0, 255).to(torch.uint8)
