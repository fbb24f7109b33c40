"""Training curves, the projection of the embedding, and the ranking of active dimensions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from partedvae.common.runs.stored_run import read_metrics
from partedvae.training.config.schedules import schedule_at
from partedvae.training.figures.embedding import embedding, principal_plane
from partedvae.training.figures.losses import curves_of, losses
from partedvae.training.figures.traversals import most_active
from tests.training.figures.runs import CONFIGS, figure_context, metrics

RunOf = Callable[[str], Path]


def test_the_panels_contain_the_measures_and_the_capacities_of_the_whole_run() -> None:
    config = CONFIGS["toys"]
    panels = curves_of(metrics(config), config)
    labels = {title: [curve.label for curve in curves] for title, curves in panels.items()}
    assert labels["test accuracy"] == ["corner", "shade"]
    assert labels["KL of z in nats"] == ["training", "test", "capacity"]
    # The run has four epochs of ten steps, of which three have ended.
    expected = [schedule_at(step, 40, config.schedule, config.objective).capacity_u for step in (10, 20, 30)]
    assert panels["KL of u in nats"][-1].values == pytest.approx(expected)


def test_a_baseline_has_no_classes_and_no_capacity() -> None:
    config = CONFIGS["vae"]
    panels = curves_of(metrics(config), config)
    assert [title for title, curves in panels.items() if curves] == ["reconstruction error", "KL of z in nats"]
    assert [curve.label for curve in panels["KL of z in nats"]] == ["training", "test"]


def test_the_loss_figure_shows_the_values_of_the_file(run_of: RunOf) -> None:
    path = run_of("toys")
    figure = losses(figure_context(path))
    axes = {each.get_title(): each for each in figure.axes}
    line = axes["reconstruction error"].get_lines()[0]
    rows = read_metrics(figure_context(path).run.metrics_file)
    assert list(np.asarray(line.get_xdata())) == [1, 2, 3]
    assert list(np.asarray(line.get_ydata())) == [row["reconstruction"] for row in rows]


def test_the_plane_is_that_of_the_directions_of_largest_variance() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(500, 4)) * np.array([0.1, 3.0, 0.1, 1.0])
    plane = principal_plane(features)
    assert abs(np.corrcoef(plane.points[:, 0], features[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(plane.points[:, 1], features[:, 3])[0, 1]) > 0.99
    share = features[:, 1].var() / features.var(axis=0).sum()
    assert plane.axis_names[0] == f"component 1 ({share:.0%})"


def test_constant_features_have_a_plane_too() -> None:
    assert principal_plane(np.ones((10, 3))).axis_names == ("component 1 (0%)", "component 2 (0%)")


def test_the_embedding_draws_every_image_once_on_each_side(run_of: RunOf) -> None:
    shown = figure_context(run_of("toys"))
    corner_u, corner_z, shade_u, shade_z = embedding(shown).axes
    for axes in (corner_u, corner_z, shade_z):
        assert sum(len(np.asarray(points.get_offsets())) for points in axes.collections) == 64
    assert sum(bar.get_height() for bar in shade_u.patches if isinstance(bar, Rectangle)) == 64
    assert corner_u.get_title() == "u of corner"
    assert shade_z.get_title() == "z, by shade"


def test_the_most_active_rows_are_those_whose_images_change_most() -> None:
    images = torch.zeros(3, 4, 2, 2, 1, dtype=torch.uint8)
    images[2, :, 0, 0, 0] = torch.tensor([0, 50, 100, 150], dtype=torch.uint8)
    images[0, :, 0, 0, 0] = torch.tensor([0, 5, 10, 15], dtype=torch.uint8)
    assert most_active(images).tolist() == [2, 0, 1]
