"""Images are drawn unchanged at the size that fits, with labels that do not overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from partedvae.training.figures.layout import (
    LARGEST,
    TONE,
    WIDTH,
    Panel,
    _column_labels,
    balanced,
    cell_size,
    draw_panels,
    resized,
)


def pixels_of(figure: Figure) -> np.ndarray:
    """Render a figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


@pytest.mark.parametrize(
    ("image_size", "available", "expected"),
    [
        ((28, 28), 90, (84, 84)),
        ((28, 28), 56, (56, 56)),
        ((28, 28), 50, (50, 50)),
        ((28, 28), 1000, (112, 112)),
        ((64, 64), 100, (100, 100)),
        ((218, 178), 89, (109, 89)),
        ((218, 178), 400, (137, LARGEST)),
        ((16, 16), 1, (8, 8)),
    ],
)
def test_small_images_are_enlarged_by_whole_factors_and_large_ones_are_reduced(
    image_size: tuple[int, int], available: int, expected: tuple[int, int]
) -> None:
    assert cell_size(image_size, available) == expected


def test_a_whole_factor_repeats_every_pixel_and_another_size_keeps_the_brightness() -> None:
    images = torch.randint(256, (2, 4, 6, 3), dtype=torch.uint8)
    doubled = resized(images, (8, 12))
    assert torch.equal(doubled[:, ::2, ::2], images)
    assert torch.equal(doubled[:, 1::2, 1::2], images)
    flat = torch.full((1, 10, 10, 1), 77, dtype=torch.uint8)
    assert (resized(flat, (7, 13)).int() - 77).abs().max() <= TONE // 2
    assert resized(torch.full_like(flat, 255), (7, 13)).unique().tolist() == [255]


def test_lines_of_panels_are_filled_evenly() -> None:
    assert [balanced(count, 4) for count in (1, 4, 5, 8, 10)] == [1, 4, 3, 4, 4]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_pixels_of_the_images_are_drawn_unchanged(channels: int) -> None:
    """Two rows of three images of different values: each is found as a square of its own colour."""
    values = torch.arange(10, 10 + 6 * 30, 30, dtype=torch.uint8)
    images = values.reshape(2, 3, 1, 1, 1).expand(2, 3, 8, 8, channels).clone()
    if channels == 3:
        images[..., 2] = 255
    page = pixels_of(draw_panels([Panel(images=images, title="t", row_labels=("a", "b"))], title="T", note="n"))
    height, width = cell_size((8, 8), WIDTH)
    for value in values.tolist():
        colour = (value,) * 3 if channels == 1 else (value, value, 255)
        rows, columns = np.nonzero((page == colour).all(axis=-1))
        # Letters may have a few grey pixels of the same value; the square is where most are.
        square = page[int(np.median(rows)) - height // 4 :, int(np.median(columns)) - width // 4 :]
        assert (square[: height // 2, : width // 2] == colour).all()
        assert len(rows) >= height * width


def test_a_page_is_white_and_of_readable_width() -> None:
    images = torch.zeros(2, 9, 28, 28, 1, dtype=torch.uint8)
    page = pixels_of(draw_panels([Panel(images=images, title="x")] * 3, title="T", note="words " * 60, across=3))
    assert 1000 <= page.shape[1] <= WIDTH
    assert (page[:4] == 255).all()
    assert (page[:, -4:] == 255).all()


def test_column_labels_are_wrapped_to_the_distance_between_neighbours() -> None:
    images = torch.zeros(1, 4, 8, 8, 1, dtype=torch.uint8)
    crowded = Panel(images=images, column_labels=("a very long name of a class", "b", "c", "d"))
    (column, text), *_ = _column_labels(crowded, 40)
    assert column == 0
    assert max(map(len, text.split("\n"))) <= 4
    assert text.endswith("…")
    alone = Panel(images=images, column_labels=("", "a longer name", "", ""))
    assert _column_labels(alone, 40) == [(1, "a longer name")]
