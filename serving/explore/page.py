"""What a page is: its name and URL, what it needs, and the function that builds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from partedvae.serving.explore.context import Context

Need = Literal["model", "features", "runs", "label"]

_OPTIONS: dict[Need, str] = {
    "model": "--model MODELS_DIR/NAME, or --server HOST:PORT",
    "features": "--features FILE, which 'partedvae extract' writes",
    "runs": "--runs FOLDER, the folder of 'partedvae train'",
    "label": "--label FOLDER, a folder of images",
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of the site."""

    name: str
    """Its name in the navigation."""
    path: str
    """Its URL, "/look"."""
    icon: str
    """Name of a Material icon."""
    build: Callable[[Context], Awaitable[None] | None]
    """Adds its elements below the header. Called for each visitor and each load: its variables are that visitor's."""
    needs: tuple[Need, ...] = ()
    """What it cannot do without."""

    def unavailable(self, context: Context) -> str:
        """Return which options make the page available; empty where it is."""
        missing = [_OPTIONS[need] for need in self.needs if getattr(context, need) is None]
        return f"Start 'partedvae explore' with {' and '.join(missing)}" if missing else ""
