"""A card that trains from the labels of a folder: the command, a button that runs it, and its output."""

from __future__ import annotations

import shlex
from importlib.util import find_spec

from nicegui import background_tasks, ui

from partedvae.serving.explore.labelling.workspace import Workspace
from partedvae.serving.explore.widgets import card

SHOWN = 14
"""Lines of output that are shown."""
INTERRUPTED = (130, 143)
"""Exit codes of a training that SIGINT or SIGTERM ended, which prints how to resume it."""


class TrainingCard:
    """The elements of one visitor; the training itself is shared."""

    def __init__(self, workspace: Workspace) -> None:
        """Add the elements."""
        self._workspace = workspace
        self._words: list[str] = []
        with card("Train", "from these labels"):
            self._command = ui.label().classes("pv-command")
            with ui.element("div").classes("pv-controls"):
                self._start = ui.button("Train", icon="play_arrow", on_click=self._on_start).props("unelevated no-caps")
                self._stop = ui.button("Stop", icon="stop", on_click=workspace.trainer.stop).props("outline no-caps")
                self._state = ui.label().classes("pv-label__note").props("role=status")
            self._log = ui.element("pre").classes("pv-log").props('aria-label="Output of the training"')
            with self._log:
                self._lines = ui.label()
        self.refresh()
        ui.timer(1.0, self.refresh)

    def refresh(self) -> None:
        """Show the state of the training."""
        trainer = self._workspace.trainer
        installed = find_spec("torch") is not None
        self._words = trainer.words if trainer.running else self._workspace.training_command()
        self._command.text = f"$ partedvae {shlex.join(self._words)}"
        self._start.visible, self._stop.visible = not trainer.running, trainer.running
        self._start.set_enabled(installed and bool(self._workspace.labels.values))
        self._state.text = _state(trainer.running, trainer.code, installed)
        text = "\n".join(list(trainer.lines)[-SHOWN:])
        self._lines.text = text
        self._log.visible = bool(text)

    def _on_start(self) -> None:
        if not self._workspace.trainer.running:
            background_tasks.create(self._workspace.trainer.run(self._words), name="train")
        self.refresh()


def _state(running: bool, code: int | None, installed: bool) -> str:
    if not installed:
        return "Training needs PyTorch: pip install 'partedvae[train]'"
    if running:
        return "Training. It ends with these pages, and saves its state."
    if code is None:
        return ""
    if code == 0:
        return "Finished."
    return "Stopped; see below." if code in INTERRUPTED else f"Ended with exit code {code}; see below."
