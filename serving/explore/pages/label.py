"""The page Label: one image at a time, one key per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nicegui import background_tasks, ui

from partedvae.common.file_names import in_one_line
from partedvae.errors import PartedVAEError
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.elements.class_adder import ClassAdder
from partedvae.serving.explore.elements.key_button import key_button
from partedvae.serving.explore.elements.training import TrainingCard
from partedvae.serving.explore.errors import errors_notified
from partedvae.serving.explore.labelling.keys import SKIP, UNDO
from partedvae.serving.explore.labelling.workspace import ANY, Workspace
from partedvae.serving.explore.model import ModelAccess
from partedvae.serving.explore.widgets import address, card, page_shown

ALL = "all factors"
DEFAULT_FACTOR = "class"
"""Name of the factor where neither labels.csv nor a model has one."""
BROKEN = -1
"""What a browser sends instead of the number of an image that it cannot show; it can be skipped."""
REFRESH_SECONDS = 1.0
"""Interval at which changes of other visitors are shown; those of other programs are read with the next label."""


async def build(context: Context) -> None:
    """Show the next image, and a button for each class."""
    workspace = context.labelling
    assert workspace is not None
    ui.add_head_html('<link rel="stylesheet" href="/static/label.css">')
    ui.add_head_html('<script defer src="/static/label.js"></script>')
    await page_shown()  # The table may be large, or on a slow disk.
    with errors_notified():
        await workspace.refresh()
    page = _LabelPage(workspace, context.model)
    ui.on("pv-label", page.on_action)
    # Not on_disconnect, which is called for each short interruption of the connection too.
    ui.context.client.on_delete(page.leave)
    ui.timer(REFRESH_SECONDS, page.refresh)
    page.next()
    workspace.rank(page.ranked_by)  # When it is known how many classes there are.


@dataclass(frozen=True)
class _Step:
    """A label that was written, or an image that was skipped, to be undone."""

    name: str
    factor: str = ""
    """Empty for an image that was skipped."""
    value: str = ""
    before: str = ""
    """The class that was replaced; empty for none."""


class _LabelPage:
    """The elements and the state of one visitor."""

    def __init__(self, workspace: Workspace, model: ModelAccess | None) -> None:
        """Add the elements, without an image."""
        self._workspace = workspace
        self._model = model
        self._client = ui.context.client
        self._visitor = self._client.id
        self._chosen = ALL
        self._name: str | None = None
        self._before: dict[str, str] = {}
        self._skipped: set[str] = set()
        self._steps: list[_Step] = []
        self._busy = False
        self._drawn: tuple[object, ...] | None = None
        with ui.element("div").classes("pv-label"):
            with card("Image"):
                self._image = ui.element("img").classes("pv-label__image")
                self._file = ui.label().classes("pv-label__file")
                self._done = ui.label().classes("pv-label__done")
                self._note = ui.label().classes("pv-label__note").props("role=status")
            with ui.element("div").classes("pv-label__side"):
                with card("Classes"):
                    self._head = ui.element("div").classes("pv-controls")
                    self._question = ui.label().classes("pv-label__question").props("aria-live=polite")
                    self._guess = ui.label().classes("pv-label__guess")
                    self._buttons = (
                        ui.element("div").classes("pv-label__classes").props("role=group aria-label=Classes")
                    )
                    self._adder = ClassAdder(workspace, self._model_classes, self.refresh)
                    with ui.element("div").classes("pv-controls"):
                        self._undo = key_button("undo", "Undo", UNDO, "U")
                        self._skip = key_button("skip", "Skip", SKIP, "Space")
                    self._progress = ui.linear_progress(0, show_value=False).props('aria-label="Labelled images"')
                    self._counts = ui.label().classes("pv-label__counts")
                self._training = TrainingCard(workspace)
        self._add_head()

    @property
    def _factors(self) -> list[str]:
        """The factors that images have: those of labels.csv, of the model, and the visitor's."""
        known, learned = list(self._workspace.labels.factors), list(self._model_classes())
        # A model without any of those in labels.csv was trained for something else.
        own = [*(learned if not known or set(known) & set(learned) else []), *self._adder.factors]
        return list(dict.fromkeys([*known, *own])) or [DEFAULT_FACTOR]

    @property
    def _wanted(self) -> list[str]:
        """The factors that are labelled here."""
        return self._factors if self._chosen == ALL else [self._chosen]

    @property
    def ranked_by(self) -> str:
        """Which ranking the images follow."""
        return self._workspace.ranked_by(ANY if self._chosen == ALL else self._chosen)

    @property
    def _factor(self) -> str:
        """The factor that is asked for: the first one that the image lacks."""
        known = self._workspace.labels.values.get(self._name or "", {})
        return next((factor for factor in self._wanted if factor not in known), self._wanted[0])

    def _model_classes(self) -> dict[str, list[str]]:
        """Return the classes that a model has learned, by factor; those of a model without labels are clusters."""
        details = self._model.details if self._model is not None else None
        if details is None or not details.manifest.training.labels_used:
            return {}
        return {factor.name: list(factor.class_names) for factor in details.manifest.factors}

    def _add_head(self) -> None:
        """Add the picker of the factor, where there are several."""
        self._head.clear()
        factors = self._factors
        with self._head:
            if len(factors) > 1:
                ui.select([ALL, *factors], value=self._chosen, label="label", on_change=self._on_factor).props(
                    "dense outlined options-dense"
                )
        self._head.visible = len(factors) > 1

    def next(self, first: str = "") -> None:
        """Show an image: that of a name, or the next one."""
        if self._client.is_deleted:
            return  # The tab was closed while a label was written; nobody would release the image.
        self._name = self._workspace.claim(self._visitor, self._wanted, self._skipped, first, self.ranked_by)
        self._before = dict(self._workspace.labels.values.get(self._name or "", {}))
        self._show_image()
        self.refresh()
        self._guess_later()

    def _show_image(self) -> None:
        name = self._name
        self._image.visible, self._file.visible, self._done.visible = name is not None, name is not None, name is None
        if name is None:
            skipped = f"; {len(self._skipped)} were skipped" if self._skipped else ""
            self._done.text = f"No image is left to label{skipped}."
            return
        number = self._workspace.names.index(name)
        self._image.props["src"] = address("/label/image.png", v=self._workspace.version, n=number)
        self._image.props["alt"] = f"Image {in_one_line(name)}"
        self._image.props["data-number"] = str(number)
        self._image.update()
        self._file.text = in_one_line(name)

    def refresh(self) -> None:
        """Show what has changed, also by others."""
        workspace = self._workspace
        factor = self._factor
        classes = workspace.classes(factor, self._model_classes().get(factor, ()))
        workspace.rank(self.ranked_by, again=False)
        counts = workspace.labels.counts(factor)
        labelled = len(workspace.labels.labelled(factor))
        total = len(workspace.names)
        status, factors, steps = self._status(), tuple(self._factors), len(self._steps)
        now = (factors, self._name, factor, tuple(classes), tuple(counts.items()), status, steps)
        if now == self._drawn:
            return
        if self._drawn is None or self._drawn[0] != factors:
            self._add_head()
        self._drawn = now
        self._question.text = f"{factor}?" if classes else "Add the first classes."
        keys = workspace.keys(factor)
        self._buttons.clear()
        with self._buttons:
            for name in classes:
                key = keys.get(name, "")
                button = key_button("class", name, key, key.upper(), factor=factor, count=counts[name])
                if self._name is None:
                    button.props("disabled")
        self._undo.props(remove="disabled") if self._steps else self._undo.props("disabled")
        self._skip.props(remove="disabled") if self._name is not None else self._skip.props("disabled")
        self._progress.value = labelled / total
        self._counts.text = f"{labelled:,} of {total:,} images have a label of {factor}"
        self._note.text = status
        self._adder.show(factor)
        self._training.refresh()

    def _status(self) -> str:
        """Return how the images are ordered."""
        workspace = self._workspace
        if not workspace.unlabelled(self.ranked_by):
            return ""
        ranked = workspace.ranked(self.ranked_by)
        if workspace.ranker.running:
            latest = workspace.ranker.lines[-1] if workspace.ranker.lines else "starting"
            before = "Ranking again" if ranked else "Images are in random order until they are ranked"
            return f"{before}: {latest}"
        if ranked:
            again = f" They could not be ranked again: {workspace.problem}" if workspace.problem else ""
            return f"{ranked:,} suggested images are left, the most useful first.{again}"
        if workspace.problem:
            return f"Images are in random order, as they could not be ranked: {workspace.problem}"
        return "Images are in random order."

    def _guess_later(self) -> None:
        """Show the guess when it is there; keys do not wait for it."""
        self._guess.text = ""
        background_tasks.create(self._show_guess(), name="guess")

    async def _show_guess(self) -> None:
        """Show the class that the model predicts for the image."""
        name, factor, classes = self._name, self._factor, self._model_classes()
        if name is None or self._model is None or factor not in classes or self._model.problem:
            return
        path = self._workspace.folder / name
        try:
            found = await self._model.checked(self._model.call.classify([path], check_familiarity=False))
            result = found[factor]
        except (PartedVAEError, OSError, LookupError):
            return  # The banner says that the server is away; an image that cannot be read has no guess.
        if name == self._name and factor == self._factor and result.probs is not None:
            best = int(np.argmax(result.probs[0]))
            self._guess.text = f"The model: {classes[factor][best]} ({result.probs[0, best]:.0%})"

    async def on_action(self, event: Any) -> None:
        """Do what a key or button says, for the image and the factor that were on the screen."""
        action, factor, value, shown = (event.args.get(name) for name in ("action", "factor", "value", "shown"))
        if self._busy:
            return
        self._busy = True
        try:
            with errors_notified():
                if action == "undo":
                    await self._on_undo()
                elif self._name is None or shown not in (self._workspace.names.index(self._name), BROKEN):
                    return
                elif action == "skip":
                    self._skipped.add(self._name)
                    self._steps.append(_Step(self._name))
                    self.next()
                elif shown == BROKEN or factor != self._factor or value not in self._workspace.classes(factor):
                    return
                elif action == "class":
                    await self._on_class(self._name, factor, value)
        finally:
            self._busy = False

    async def _on_class(self, name: str, factor: str, value: str) -> None:
        before = self._before.get(factor, "")
        if await self._workspace.write(name, factor, value, before):
            self._steps.append(_Step(name, factor, value, before))
        elif not self._client.is_deleted:
            self._notify_changed(name, factor)
        known = self._workspace.labels.values.get(name, {})
        if all(each in known for each in self._wanted):
            self.next()
        elif not self._client.is_deleted:
            self._before = dict(known)
            self.refresh()
            self._guess_later()

    async def _on_undo(self) -> None:
        if not self._steps:
            return
        step = self._steps[-1]
        if step.factor and not await self._workspace.write(step.name, step.factor, step.before, step.value):
            self._notify_changed(step.name, step.factor)
        self._steps.pop()
        self._skipped.discard(step.name)
        self.next(step.name)

    def _notify_changed(self, name: str, factor: str) -> None:
        now = self._workspace.labels.class_of(name, factor) or "not labelled"
        ui.notify(f"{in_one_line(name)} is {now} now: another visitor or program has changed it", type="warning")

    async def _on_factor(self, event: Any) -> None:
        self._chosen = event.value
        ui.run_javascript("document.activeElement.blur()")  # Keys are the picker's while it has the focus.
        self.next()

    def leave(self) -> None:
        """Let others have the image."""
        self._workspace.release(self._visitor)
