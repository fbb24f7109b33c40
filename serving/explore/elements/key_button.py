"""A button with a key of the page Label."""

from __future__ import annotations

from nicegui import ui


def key_button(
    action: str, text: str, key: str, shown_key: str, *, factor: str = "", count: int | None = None
) -> ui.element:
    """Add a button of which label.js sends the clicks, and the presses of its key.

    Args:
        action: what it does: "class", "undo" or "skip".
        text: its text; for a class, its name.
        key: the key as browsers name it; empty for none.
        shown_key: the key as the button shows it.
        factor: the factor of the class.
        count: number of images of the class.
    """
    button = ui.element("button").props("type=button").classes("pv-key")
    button.classes(f"pv-key--{action}")
    button.props["data-action"] = action
    button.props["data-factor"] = factor
    button.props["data-value"] = text
    if key:
        button.props["data-key"] = key
        button.props["aria-keyshortcuts"] = shown_key
    with button:
        if shown_key:
            ui.label(shown_key).classes("pv-key__key").props("aria-hidden=true")
        ui.label(text).classes("pv-key__text")
        if count is not None:
            ui.label(f"{count:,}").classes("pv-key__count").props["aria-label"] = f"{count} images"
    return button
