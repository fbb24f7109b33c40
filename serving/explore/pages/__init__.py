"""The pages, in the order of the navigation. A new one has a module here and a line in the table."""

from __future__ import annotations

from partedvae.serving.explore.page import Page
from partedvae.serving.explore.pages import generate

PAGES: tuple[Page, ...] = (
    Page(name="Generate", path="/generate", icon="auto_awesome", build=generate.build, needs=("model",)),
)
