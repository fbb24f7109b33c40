"""Blocks of images on a white page, placed in whole pixels so that their place blurs no image."""

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
"""Pixels an inch: with it a point is 1.39 pixels."""
WIDTH, LEAST_WIDTH = 1400, 900
"""Pixels that a page may take, and takes at least: a README shows it at about two thirds."""
MARGIN, SPACE, GAP, LEAD_GAP = 16, 28, 2, 12
"""Pixels around the page, between panels, between images, and after images that are set apart."""
LARGEST = 112
"""Pixels of width of the largest image."""
TONE = 4
"""Steps of brightness, of 255, in images that are interpolated."""
TITLE, TEXT = 15, 11
"""Font sizes in points."""
LINE, CHARACTER = 20, 8.6
"""Pixels of a line of text and, about, of a character in it."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A block of images with its labels."""

    images: UInt8[Tensor, "rows columns height width channels"]
    """Grey or RGB."""
    title: str = ""
    """Above it."""
    row_labels: Sequence[str] = ()
    """Left of it; none, or one a row."""
    column_labels: Sequence[str] = ()
    """Above the images; none, or one a column, of which some may be empty."""
    lead: int = 0
    """So many rows and columns at the beginning are set apart from the others."""
    plot: Callable[[Axes], None] | None = None
    """Draws above the images, where column i spans i - 0.5 to i + 0.5 of the x axis."""
    plot_height: int = 0
    """Pixels that it gets."""


@dataclass(frozen=True)
class _Grid:
    """The measures, in pixels, that all panels of a page share."""

    cell: tuple[int, int]
    """Height and width of an image."""
    lefts: tuple[int, ...]
    """Width of the row labels at each place in a line of panels."""
    title: int
    """Height of the panels' titles."""
    columns: int
    """Height of the column labels."""

    def extent(self, count: int, axis: int, lead: int) -> int:
        """Pixels of `count` images along an axis."""
        return self.offset(count - 1, axis, lead) + self.cell[axis]

    def offset(self, index: int, axis: int, lead: int) -> int:
        """Pixels before an image along an axis."""
        return index * (self.cell[axis] + GAP) + (LEAD_GAP if 0 < lead <= index else 0)

    def height(self, panel: Panel) -> int:
        """Pixels of a panel but for its plot."""
        return self.title + self.columns + self.extent(panel.images.shape[0], 0, panel.lead)

    def width(self, panel: Panel) -> int:
        """Pixels of a panel's images."""
        return self.extent(panel.images.shape[1], 1, panel.lead)


def balanced(count: int, most: int) -> int:
    """Return how many of `count` panels to put side by side, at most `most`, so that the last line is not lonely."""
    return math.ceil(count / math.ceil(count / most))


def draw_panels(panels: Sequence[Panel], *, title: str, note: str, across: int = 1) -> Figure:
    """Draw panels, `across` of them side by side, under a title and a note that tells what there is to see."""
    grid = _measure(panels, across)
    lines = [panels[start : start + across] for start in range(0, len(panels), across)]
    plots = [max(panel.plot_height for panel in line) for line in lines]
    heights = [max(map(grid.height, line)) + plot for line, plot in zip(lines, plots, strict=True)]
    widest = max(grid.width(panel) for panel in panels)
    # Where the images of each place in a line begin: behind the places before them, and their own row labels.
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
    """A figure whose things are placed in pixels from the top left corner."""

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
    room = WIDTH - 2 * MARGIN - (across - 1) * SPACE - sum(lefts)
    cell = cell_size(panels[0].images.shape[2:4], room // (across * columns) - GAP)
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
    """Return column and text of the labels, wrapped so that neighbours do not touch."""
    places = [column for column, text in enumerate(panel.column_labels) if text]
    free = min((after - before for before, after in pairwise(places)), default=len(panel.column_labels))
    characters = max(3, int(free * (cell_width + GAP) / CHARACTER))
    wrapped = [textwrap.wrap(panel.column_labels[place], characters, max_lines=2, placeholder="…") for place in places]
    return [(place, "\n".join(text)) for place, text in zip(places, wrapped, strict=True)]


def shortened(text: str, characters: int) -> str:
    """Cut a text to a number of characters."""
    return text if len(text) <= characters else text[: max(1, characters - 1)] + "…"


def _mosaic(panel: Panel, grid: _Grid) -> UInt8[np.ndarray, "height width 3"]:
    """Put a panel's images beside each other on white."""
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


def cell_size(image_size: Sequence[int], room: int) -> tuple[int, int]:
    """Return height and width at which to show images in `room` pixels of width: a whole multiple where there is room.

    Small images stay crisp when each of their pixels is a square; a broken multiple would make some squares larger.
    """
    height, width = image_size
    shown = max(8, min(room, LARGEST))
    scale = shown // width if shown >= 2 * width else shown / width
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(
    images: UInt8[Tensor, "count height width channels"], size: tuple[int, int]
) -> UInt8[Tensor, "count h w c"]:
    """Resize images: pixels become squares at whole multiples, and are interpolated otherwise.

    Interpolated pixels are rounded to TONE, which halves the PNG of a page of faces and which no eye sees.
    """
    height, width = images.shape[1:3]
    if size[0] % height == 0 and size[1] % width == 0:
        return images.repeat_interleave(size[0] // height, dim=1).repeat_interleave(size[1] // width, dim=2)
    pixels = images.permute(0, 3, 1, 2).float()
    smooth = functional.interpolate(pixels, size=size, mode="bicubic", antialias=True, align_corners=False)
    return (TONE * (smooth.permute(0, 2, 3, 1) / TONE).round()).clamp(0, 255).to(torch.uint8)
