"""Fields for a class that no image has yet, of the factor that is asked for or of another one."""

from __future__ import annotations

from collections.abc import Callable, Collection

from nicegui import ui

from partedvae.common.data_error import DataError
from partedvae.serving.explore.errors import errors_notified
from partedvae.serving.explore.labelling.workspace import Workspace


class ClassAdder:
    """The fields of one visitor.

    Attributes:
        factors: the factors of the classes that were added, which labels.csv does not have before an image has one.
    """

    def __init__(
        self, workspace: Workspace, learned: Callable[[], Collection[str]], on_added: Callable[[], None]
    ) -> None:
        """Add the elements.

        Args:
            workspace: the folder.
            learned: returns the factors of a model, whose classes are its own.
            on_added: is called after a class was added.
        """
        self.factors: list[str] = []
        self._workspace = workspace
        self._learned = learned
        self._on_added = on_added
        self._asked = ""
        with ui.element("div").classes("pv-controls") as self._row:
            self._factor = ui.input("factor").props("dense outlined")
            self._class = ui.input("new class").props("dense outlined").on("keydown.enter", self._on_add)
            ui.button("Add", icon="add", on_click=self._on_add).props("outline no-caps")

    def show(self, factor: str) -> None:
        """Show the factor that is asked for; a text that was typed stays until another factor is."""
        if factor != self._asked:
            self._asked = self._factor.value = factor
        self._row.visible = factor not in self._learned()

    async def _on_add(self) -> None:
        name, factor = self._class.value.strip(), self._factor.value.strip() or self._asked
        if not name:
            return
        if factor in self._learned():
            ui.notify(f"The classes of {factor} are those of the model.", type="warning")
            return
        # At once: what is typed while the class is being added is the next one.
        self._class.value = ""
        with errors_notified():
            try:
                factor = await self._workspace.add_class(factor, name)
            except (DataError, OSError):
                self._class.value = self._class.value or name
                raise
            if factor not in self.factors:
                self.factors.append(factor)
            self._on_added()
