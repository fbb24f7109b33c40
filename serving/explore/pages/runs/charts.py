"""Charts of the metrics of several runs, as options of Apache ECharts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from partedvae.common.runs.comparison import Comparison
from partedvae.common.runs.scores import metric_kind

COLOURS = (
    "#6366f1",
    "#d97706",
    "#0d9488",
    "#db2777",
    "#65a30d",
    "#0284c7",
    "#dc2626",
    "#9333ea",
    "#854d0e",
    "#64748b",
)
"""Colours of the runs, readable on light and dark pages; further runs repeat them with a dashed line."""
_TEXT, _LINE = "#7c8496", "rgba(128, 136, 150, 0.25)"
"""Of axes, on light and dark pages."""
_FEW_POINTS = 40
"""With more, a curve has no symbols."""


def colour_of(position: int) -> str:
    """Return the colour of the run at a position."""
    return COLOURS[position % len(COLOURS)]


def chart_options(comparison: Comparison, names: Sequence[str], metric: str) -> dict[str, Any]:
    """Return the chart of a metric, with a curve per run.

    Args:
        comparison: the runs.
        names: a name of each run.
        metric: the metric; shares are drawn in percent.
    """
    share = metric_kind(metric).is_share
    axis = {"axisLabel": {"color": _TEXT}, "splitLine": {"lineStyle": {"color": _LINE}}}
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 12, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "axis", "confine": True},
        "xAxis": {**axis, "type": "value", "minInterval": 1, "min": "dataMin", "max": "dataMax"},
        "yAxis": {
            **axis,
            "type": "value",
            "scale": True,
            "axisLabel": {"color": _TEXT, "formatter": "{value} %" if share else "{value}"},
        },
        "series": [
            {
                "type": "line",
                "name": name,
                "color": colour_of(position),
                "lineStyle": {"width": 2, "type": "solid" if position < len(COLOURS) else "dashed"},
                "symbol": "circle",
                "symbolSize": 5,
                "showSymbol": len(points) <= _FEW_POINTS,
                "data": [[epoch, _rounded(100 * value if share else value)] for epoch, value in points],
            }
            for position, (name, points) in enumerate(
                (name, run.curve(metric)) for name, run in zip(names, comparison.runs, strict=True)
            )
        ],
    }


def _rounded(value: float) -> float:
    """Return a value with as many digits as a tooltip shows."""
    return float(f"{value:.5g}")
