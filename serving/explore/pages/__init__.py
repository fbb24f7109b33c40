"""The pages, in the order of the navigation. A new one has a module here and a line in the table."""

from __future__ import annotations

from partedvae.serving.explore.page import Page
from partedvae.serving.explore.pages import generate, label, look, move
from partedvae.serving.explore.pages.map import page as map_page
from partedvae.serving.explore.pages.runs import page as runs

PAGES: tuple[Page, ...] = (
    Page(name="Look", path="/look", icon="visibility", build=look.build, needs=("model",)),
    Page(name="Move", path="/move", icon="tune", build=move.build, needs=("model",)),
    Page(name="Generate", path="/generate", icon="auto_awesome", build=generate.build, needs=("model",)),
    Page(name="Map", path="/map", icon="scatter_plot", build=map_page.build, needs=("features",)),
    Page(name="Runs", path=runs.PATH, icon="stacked_line_chart", build=runs.build, needs=("runs",)),
    Page(name="Label", path="/label", icon="label", build=label.build, needs=("label",)),
)
