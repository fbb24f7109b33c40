"""Builds the page Runs: the list of the folder's runs, and the comparison of those that are chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from nicegui import ui

from partedvae.common.runs.comparison import FEWEST_RUNS, Comparison, compare_runs
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.pages.runs import sections
from partedvae.serving.explore.run_folder import Entry, list_runs
from partedvae.serving.explore.widgets import address, card, page_shown

PATH = "/runs"
MOST_CHOSEN = 20
"""Runs that are compared at once; of more, tables and charts cannot be read."""
MOST_LISTED = 300
"""Runs in the list; the filter finds the others."""


async def build(context: Context) -> None:
    """Show the runs; those that are chosen, and the figure, are in the URL of the page."""
    assert context.runs is not None
    ui.add_head_html('<link rel="stylesheet" href="/static/runs.css">')
    query = ui.context.client.request.query_params
    await page_shown()  # Reading takes time: of many runs, or from a network disk.
    entries = await asyncio.to_thread(list_runs, context.runs)
    chosen = list(dict.fromkeys(query.getlist("run")))
    shown = RunsPage(entries, chosen[:MOST_CHOSEN], query.get("figure", ""))
    if not entries:
        with card("Runs", str(context.runs)):
            ui.label("There is no run in this folder; train one with 'partedvae train'.").classes("pv-card__hint")
        return
    shown.build(str(context.runs))


class RunsPage:
    """The page of one visitor."""

    def __init__(self, entries: Sequence[Entry], chosen: list[str], figure: str) -> None:
        """Set what is shown.

        Args:
            entries: the runs of the folder.
            chosen: keys of the chosen runs, in the order of their columns; unknown ones are reported.
            figure: file name of the figure; empty for the first.
        """
        self._entries = {entry.key: entry for entry in entries}
        self._unknown = [key for key in chosen if key not in self._entries or self._entries[key].run is None]
        self._chosen = [key for key in chosen if key not in self._unknown]
        self._figure = figure
        self._filter = ""

    def build(self, folder: str) -> None:
        """Add list and comparison.

        Args:
            folder: path of the folder, for its heading.
        """
        with card("Runs", folder):
            with ui.element("div").classes("pv-controls"):
                ui.input("Filter", on_change=lambda event: self._filter_by(str(event.value or ""))).props(
                    "dense outlined clearable debounce=200"
                )
                _quiet_button("Clear", "clear_all", self._clear)
                _quiet_button("Read again", "refresh", ui.navigate.reload)
            self._list = ui.element("div").classes("pv-runs").props('role="group" aria-label="Runs to compare"')
        self._content = ui.element("div").classes("pv-comparison")
        self._show_list()
        self._show_comparison()

    def _filter_by(self, text: str) -> None:
        self._filter = text.strip().lower()
        self._show_list()

    def _clear(self) -> None:
        self._chosen.clear()
        self._show_list()
        self._show_comparison()

    def _choose(self, key: str, is_chosen: bool) -> None:
        if is_chosen and key not in self._chosen:
            if len(self._chosen) == MOST_CHOSEN:
                ui.notify(f"At most {MOST_CHOSEN} runs are compared at once.", type="warning")
                self._show_list()
                return
            self._chosen.append(key)
        elif not is_chosen and key in self._chosen:
            self._chosen.remove(key)
        self._show_comparison()

    def _show_list(self) -> None:
        found = [entry for entry in self._entries.values() if self._filter in f"{entry.key} {_facts(entry)}".lower()]
        self._list.clear()
        with self._list:
            for entry in found[:MOST_LISTED]:
                self._row(entry)
            if len(found) > MOST_LISTED:
                ui.label(f"{len(found) - MOST_LISTED:,} more; filter them.").classes("pv-card__hint")
            if not found:
                ui.label("No run has this text.").classes("pv-card__hint")

    def _row(self, entry: Entry) -> None:
        with ui.element("div").classes("pv-runs__row"):
            box = ui.checkbox(
                entry.key,
                value=entry.key in self._chosen,
                on_change=lambda event: self._choose(entry.key, bool(event.value)),
            ).props("dense")
            if entry.run is None:
                box.disable()
            ui.label(_facts(entry)).classes("pv-runs__facts" + (" pv-runs__facts--bad" if entry.run is None else ""))

    def _show_comparison(self) -> None:
        runs = [run for key in self._chosen if (run := self._entries[key].run) is not None]
        self._remember()
        self._content.clear()
        with self._content:
            for key in self._unknown:
                with ui.element("div").classes("pv-note").props('role="note"'):
                    ui.icon("info").props('aria-hidden="true"')
                    ui.label(f"{key!r} of the URL is not a run of this folder that can be read.")
            if len(runs) < FEWEST_RUNS:
                ui.label("Choose two runs or more to compare them.").classes("pv-hint")
                return
            comparison = compare_runs(runs)
            sections.notes(comparison)
            sections.training(comparison)
            sections.scores(comparison)
            sections.differences(comparison)
            sections.curves(comparison)
            self._show_figures(comparison)

    def _show_figures(self, comparison: Comparison) -> None:
        names = sorted({name for run in comparison.runs for name in run.figures})
        with card("Figures", "Of 'partedvae figures'; a click opens one in full size."):
            if not names:
                ui.label("No figures were drawn of these runs: 'partedvae figures RUN' draws them.").classes(
                    "pv-card__hint"
                )
                return
            if self._figure not in names:
                self._figure = names[0]
            keys = list(self._chosen)
            with ui.element("div").classes("pv-controls"):
                ui.select(
                    {name: name.removesuffix(".png").replace("_", " ") for name in names},
                    value=self._figure,
                    label="Figure",
                    on_change=lambda event: change(event.value),
                ).props("dense outlined options-dense")
            box = ui.element("div")

            def change(name: str) -> None:
                self._figure = name
                self._remember()
                box.clear()
                with box:
                    sections.figures(comparison, keys, name)

            change(self._figure)

    def _remember(self) -> None:
        """Put the choices into the URL."""
        ui.navigate.history.replace(address(PATH, run=self._chosen or None, figure=self._figure))


def _quiet_button(text: str, icon: str, on_click: Callable[[], None]) -> None:
    # Without a colour of Quasar's, which could not be overridden for dark pages.
    ui.button(text, icon=icon, on_click=on_click, color=None).props("flat no-caps").classes("pv-quiet-button")


def _facts(entry: Entry) -> str:
    """Return what tells a run apart from others in the list."""
    run = entry.run
    if run is None:
        return entry.problem
    config = run.config
    forms = {"dataset": "{}", "recipe": "{}", "method": "{}", "labels": "{} labels", "seed": "seed {}"}
    parts = [form.format(config[key]) for key, form in forms.items() if key in config]
    accuracies = {name: value for name, value in run.scores.items() if name.startswith("accuracy/")}
    parts += [f"{name.removeprefix('accuracy/')} {value:.2%}" for name, value in accuracies.items()]
    parts += [] if run.summary is not None else [run.state]
    return " · ".join(parts)
