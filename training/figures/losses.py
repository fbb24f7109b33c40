"""Training curves from metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from partedvae.common.runs.stored_run import read_metrics
from partedvae.training.config.schedules import schedule_at
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.figures.context import FigureContext
from partedvae.training.figures.layout import TEXT, TITLE, constrained_figure

PANELS_ACROSS = 3
PANEL_SIZE = (4.5, 3.2)
"""Width and height in inches."""
ACCURACY = "test/accuracy/"
"""Prefix of the accuracies in metrics.jsonl; the name of the factor follows."""


class Curve(NamedTuple):
    """One curve of a panel."""

    label: str
    """Name in the legend."""
    values: list[float]
    """One value per epoch."""
    dashed: bool = False
    """Whether to draw it dashed, as a target instead of a measurement."""


def losses(context: FigureContext) -> Figure:
    """Draw reconstruction error, KL of z and u with their capacities, accuracies and the terms of q(c) per epoch."""
    config = context.config
    rows = read_metrics(context.run.metrics_file)
    panels = {title: curves for title, curves in curves_of(rows, config).items() if curves}
    lines = -(-len(panels) // PANELS_ACROSS)
    figure = constrained_figure(PANEL_SIZE[0] * PANELS_ACROSS, PANEL_SIZE[1] * lines + 0.5, w_pad=0.12, h_pad=0.08)
    figure.suptitle(
        f"{config.dataset}, {config.method}, recipe {config.recipe}, {config.labels} labels, seed {config.seed}",
        fontsize=TITLE,
        fontweight="bold",
        parse_math=False,
    )
    epochs = [int(row["epoch"]) for row in rows]
    grid = figure.subplots(lines, PANELS_ACROSS, squeeze=False).flatten()
    for axes, (title, curves) in zip(grid, panels.items(), strict=False):
        _draw(axes, title, epochs, curves)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure


def curves_of(rows: Sequence[Mapping[str, int | float]], config: TrainConfig) -> dict[str, list[Curve]]:
    """Return the curves of each panel by its title, without those that the run did not measure."""

    def measured(**keys: str) -> list[Curve]:
        return [
            Curve(label.replace("_", " "), [row[key] for row in rows])
            for label, key in keys.items()
            if all(key in row for row in rows)
        ]

    total_steps = round(rows[-1]["step"] / rows[-1]["epoch"] * config.epochs)
    schedules = [schedule_at(int(row["step"]), total_steps, config.schedule, config.objective) for row in rows]
    kl_z = measured(training="kl_z", test="test/kl_z")
    kl_u = measured(training="kl_u")
    has_capacity = config.method == "partedvae"
    if kl_z and has_capacity:
        kl_z.append(Curve("capacity", [schedule.capacity_z for schedule in schedules], dashed=True))
    if kl_u and has_capacity:
        kl_u.append(Curve("capacity", [schedule.capacity_u for schedule in schedules], dashed=True))
    accuracies = {key.removeprefix(ACCURACY): key for key in rows[0] if key.startswith(ACCURACY)}
    return {
        "test accuracy": measured(**accuracies),
        "reconstruction error": measured(training="reconstruction", test="test/reconstruction"),
        "KL of z in nats": kl_z,
        "KL of u in nats": kl_u,
        "q(c) in nats": measured(entropy="entropy", **{"KL(q(c) || p(c))": "kl_c"}),
        "terms of the classes in nats": measured(
            labelled_images="supervised", consistency="consistency", exchanged_u="exchange", adversary="adversary"
        ),
    }


def _draw(axes: Axes, title: str, epochs: list[int], curves: list[Curve]) -> None:
    for curve in curves:
        style = {"linestyle": "--", "color": "0.4"} if curve.dashed else {"marker": "o", "markersize": 3}
        axes.plot(epochs, curve.values, label=curve.label, **style)
    axes.set_title(title, fontsize=TEXT + 1)
    axes.set_xlabel("epoch", fontsize=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if title == "test accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        # No margin above 100%.
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.005))
    axes.tick_params(labelsize=TEXT - 1)
    axes.grid(color="0.9")
    axes.legend(fontsize=TEXT - 2, ncols=1 if len(curves) <= 4 else 2)
