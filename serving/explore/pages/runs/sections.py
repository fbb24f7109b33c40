"""The cards of a comparison: scores, differences, curves and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nicegui import ui

from partedvae.common.runs.comparison import Comparison, Difference, Score
from partedvae.common.runs.scores import is_of_one_class
from partedvae.serving.explore.pages.runs.charts import chart_options, colour_of
from partedvae.serving.explore.pictures.run_figures import ROUTE
from partedvae.serving.explore.widgets import address, card


def notes(comparison: Comparison) -> None:
    """Show what limits the comparison, such as warnings of the runs."""
    for note in comparison.notes:
        with ui.element("div").classes("pv-note").props('role="note"'):
            ui.icon("info").props('aria-hidden="true"')
            ui.label(note)


def training(comparison: Comparison) -> None:
    """Show how far each run is, and how long it took."""
    with card("Training"), _table("Training", comparison.names):
        seconds = ["–" if run.seconds is None else f"{run.seconds:,.0f}" for run in comparison.runs]
        started = [str(run.provenance.get("started", "–"))[:16].replace("T", " ") for run in comparison.runs]
        epochs = [f"{run.epochs_done} of {run.epochs}" for run in comparison.runs]
        states = [run.state.partition(":")[0] for run in comparison.runs]
        for title, texts in (("state", states), ("epochs", epochs), ("seconds", seconds), ("started", started)):
            with ui.element("tr"):
                _cell("th", title)
                for text in texts:
                    _cell("td", text)


def scores(comparison: Comparison) -> None:
    """Show the scores of the results and the metrics of the last epoch, with the best marked."""
    results = [score for score in comparison.scores if not is_of_one_class(score.name)]
    classes = [score for score in comparison.scores if is_of_one_class(score.name)]
    with card("Scores", "Of finished runs. The best of each is marked, where higher or lower values are better."):
        if results:
            _score_table("Scores", comparison.names, results)
        else:
            ui.label("No chosen run is finished.").classes("pv-card__hint")
        if classes:
            with ui.expansion("Each class").classes("pv-expansion"):
                _score_table("Scores of each class", comparison.names, classes)
        if comparison.metrics:
            with ui.expansion("Last epoch").classes("pv-expansion") as expansion:
                _score_table("Metrics of the last epoch", comparison.names, comparison.metrics)
            expansion.value = not results


def differences(comparison: Comparison) -> None:
    """Show settings, data and environment that are not the same in all runs."""
    with card("Differences", "Settings as --set names them, data and environment; what is the same is left out."):
        if not (comparison.settings or comparison.provenance):
            ui.label("The runs have the same settings and data.").classes("pv-card__hint")
        for title, rows in (("Settings", comparison.settings), ("Data and environment", comparison.provenance)):
            if rows:
                _difference_table(title, comparison.names, rows)


def curves(comparison: Comparison) -> None:
    """Show a chart per metric."""
    with card("Curves", "Per epoch; those of test images first."):
        if not comparison.curve_names:
            ui.label("No chosen run has ended an epoch.").classes("pv-card__hint")
            return
        with ui.element("div").classes("pv-legend").props('role="list" aria-label="Colours of the runs"'):
            for position, name in enumerate(comparison.names):
                with ui.element("div").classes("pv-legend__run").props('role="listitem"'):
                    ui.element("span").classes("pv-dot").style(f"background: {colour_of(position)}")
                    ui.label(name)
        with ui.element("div").classes("pv-charts"):
            for metric in comparison.curve_names:
                with ui.element("figure").classes("pv-chart"):
                    with ui.element("figcaption"):
                        ui.label(metric)
                    # SVG, which is sharp at every zoom, and cheap for curves of few points.
                    chart = ui.echart(chart_options(comparison, comparison.names, metric), renderer="svg")
                    chart.classes("pv-chart__plot").props["role"] = "img"
                    chart.props["aria-label"] = f"{metric} of {', '.join(comparison.names)} per epoch"


def figures(comparison: Comparison, keys: Sequence[str], name: str) -> None:
    """Show a figure of every run, side by side.

    Args:
        comparison: the runs.
        keys: the runs, as in `run_folder.Entry`.
        name: file name of the figure.
    """
    with ui.element("div").classes("pv-figures"):
        for label, key, run in zip(comparison.names, keys, comparison.runs, strict=True):
            with ui.element("figure").classes("pv-figure"):
                with ui.element("figcaption"):
                    ui.label(label)
                if name in run.figures:
                    source = address(ROUTE, run=key, name=name)
                    with ui.link(target=source, new_tab=True):
                        image = ui.element("img").classes("pv-figure__image")
                    image.props["src"] = source
                    image.props["alt"] = f"{name.removesuffix('.png')} of {label}"
                    image.props["loading"] = "lazy"
                else:
                    ui.label(f"Not drawn: 'partedvae figures {run.path}' draws it.").classes("pv-card__hint")


def _score_table(title: str, names: Sequence[str], rows: Iterable[Score]) -> None:
    with _table(title, names):
        for row in rows:
            with ui.element("tr"):
                with ui.element("th"):
                    ui.label(row.name)
                    if row.kind.meaning:
                        ui.label(row.kind.meaning).classes("pv-meaning")
                for text, best in zip(row.texts(), row.best, strict=True):
                    with ui.element("td").classes("pv-best" if best else ""):
                        ui.label(text)
                        if best:
                            ui.label("best").classes("pv-best__mark")


def _difference_table(title: str, names: Sequence[str], rows: Iterable[Difference]) -> None:
    with _table(title, names):
        for row in rows:
            with ui.element("tr"):
                _cell("th", row.key)
                for text in row.texts():
                    _cell("td", text)


def _table(title: str, names: Sequence[str]) -> ui.element:
    """Add a table with a column per run, which scrolls sideways by itself; return the body."""
    # In the order of the keyboard, since it scrolls.
    with ui.element("div").classes("pv-table") as box:
        box.props["role"] = "group"
        box.props["aria-label"] = title
        box.props["tabindex"] = 0
        with ui.element("table"):
            with ui.element("thead"), ui.element("tr"):
                _cell("th", title)
                for name in names:
                    _cell("th", name)
            return ui.element("tbody")


def _cell(tag: str, text: str) -> None:
    with ui.element(tag):
        ui.label(text)
