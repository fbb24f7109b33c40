"""What surrounds every page: header, navigation, dark and light, and the banner while the server is away."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from nicegui import ui
from nicegui.client import ClientConnectionTimeout

from partedvae.cli.connection import with_options
from partedvae.common.click_errors import message_of
from partedvae.errors import DeadlineError, PartedVAEError, UnavailableError
from partedvae.model_results import ModelDetails
from partedvae.serving.errors import ServingError
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.model import ModelAccess
from partedvae.serving.explore.page import Page

THEME_COOKIE = "partedvae_theme"
THEMES: dict[str, tuple[bool | None, str]] = {
    "auto": (None, "brightness_auto"),
    "light": (False, "light_mode"),
    "dark": (True, "dark_mode"),
}
"""For each choice, the value of `ui.dark_mode` and an icon."""
LOAD_AGAIN = """for (const image of document.images) {
    if (image.complete && !image.naturalWidth && image.getAttribute("src")) image.src = image.src;
}"""
"""Loads the pictures of a page that could not be loaded."""
CHECK_SECONDS = 1.0
"""Time between two looks at whether the model answers, and is still the one that the page shows."""


async def framed(page: Page, pages: Sequence[Page], context: Context) -> None:
    """Build a page with its surroundings."""
    ui.add_head_html('<link rel="stylesheet" href="/static/explore.css">')
    ui.colors(primary="#4f46e5", secondary="#0f766e", accent="#b45309", dark_page="#0f1117", dark="#171a23")
    with ui.header(elevated=False).classes("pv-header"):
        ui.link("PartedVAE", "/").classes("pv-brand")
        _navigation(page, pages, context, "pv-nav")
        ui.space()
        if context.model is not None:
            _model_name(context.model)
        _theme_button()
    with ui.footer(elevated=False).classes("pv-footer"):
        _navigation(page, pages, context, "pv-nav pv-nav--bottom")
    with ui.element("div").classes("pv-main"):
        if context.model is not None:
            _banner(context.model)
        if reason := page.unavailable(context):
            _message("lock", f"{page.name} is not available", reason)
        elif "model" in page.needs and context.model is not None and context.model.details is None:
            _message("cloud_off", "Waiting for the server", "The page opens when the server answers.")
        else:
            await _build(page, context)


async def _build(page: Page, context: Context) -> None:
    """Add what the page shows, or why it cannot."""
    try:
        built = page.build(context)
        if inspect.isawaitable(built):
            await built
    except ClientConnectionTimeout:
        pass  # Nobody sees the page.
    except (PartedVAEError, ServingError) as error:
        _message("error_outline", f"{page.name} cannot be shown", with_options(message_of(error)))
        if isinstance(error, UnavailableError | DeadlineError) and context.model is not None:
            _reload_when_answering(context.model)


def _navigation(current: Page, pages: Sequence[Page], context: Context, classes: str) -> None:
    with ui.element("nav").classes(classes).props('aria-label="Pages"'):
        for page in pages:
            reason = page.unavailable(context)
            link = ui.link(target=page.path).classes("pv-nav__link")
            if page is current:
                link.props('aria-current="page"')
            with link:
                ui.icon(page.icon).props('aria-hidden="true"')
                ui.label(page.name)
                if reason:
                    link.classes("pv-nav__link--off").props('aria-disabled="true"')
                    ui.tooltip(reason)


def _model_name(model: ModelAccess) -> None:
    with ui.element("div").classes("pv-model"):
        details = model.details
        with ui.label(f"{details.name} {details.version}" if details else model.where).classes("pv-model__name"):
            ui.tooltip(_described(model.where, details))
        if details is None or not details.warnings:
            return
        with (
            ui.button(icon="warning_amber")
            .props('flat round dense aria-label="Warnings of the model"')
            .classes("pv-icon-button pv-icon-button--warn"),
            ui.menu().classes("pv-warnings"),
        ):
            for warning in details.warnings:
                ui.label(warning)


def _described(where: str, details: ModelDetails | None) -> str:
    if details is None:
        return where
    image, training = details.manifest.image, details.manifest.training
    labels = f"{training.labels_used:,} labels" if training.labels_used else "no labels"
    return (
        f"{where}: trained on {training.dataset} with {labels}, {image.height} x {image.width} pixels, "
        f"runs on {details.runs_on}"
    )


def _theme_button() -> None:
    cookies = ui.context.client.request.cookies
    chosen = cookies.get(THEME_COOKIE, "auto")
    mode = ui.dark_mode(THEMES.get(chosen, THEMES["auto"])[0])

    def choose(name: str) -> None:
        mode.value, icon = THEMES[name]
        button.props(f"icon={icon}")
        ui.run_javascript(f"document.cookie = '{THEME_COOKIE}={name}; path=/; max-age=31536000; SameSite=Strict'")

    with (
        ui.button(icon=THEMES.get(chosen, THEMES["auto"])[1])
        .props('flat round dense aria-label="Dark or light"')
        .classes("pv-icon-button") as button,
        ui.menu(),
    ):
        for name in THEMES:
            ui.menu_item(name.capitalize(), lambda name=name: choose(name))


def _banner(model: ModelAccess) -> None:
    """Show while the model does not answer, or has been replaced; a page without a model is loaded again with one."""
    shown, failures = model.details, model.failures
    with ui.element("div").classes("pv-banner").props('role="alert"') as away:
        ui.icon("cloud_off").props('aria-hidden="true"')
        problem = ui.label()
    with ui.element("div").classes("pv-banner pv-banner--info").props('role="status"') as replaced:
        replaced.visible = False
        ui.label("The server has another version of the model now.")
        ui.button("Reload", on_click=ui.navigate.reload).props("flat dense")

    def check() -> None:
        nonlocal failures
        away.visible = bool(model.problem)
        problem.text = f"{model.problem}. Trying again." if model.problem else ""
        if failures != model.failures and not model.problem:
            failures = model.failures
            ui.run_javascript(LOAD_AGAIN)
        now = model.details
        if now is None:
            return
        if shown is None:
            ui.navigate.reload()
        elif (now.name, now.version) != (shown.name, shown.version):
            replaced.visible = True

    check()
    ui.timer(CHECK_SECONDS, check)


def _reload_when_answering(model: ModelAccess) -> None:
    """Load the page again when the model answers."""

    def check() -> None:
        if not model.problem:
            timer.deactivate()
            ui.navigate.reload()

    timer = ui.timer(CHECK_SECONDS, check)


def _message(icon: str, title: str, text: str) -> None:
    with ui.element("div").classes("pv-message"):
        ui.icon(icon).props('aria-hidden="true"')
        ui.label(title).classes("pv-message__title").props('role="heading" aria-level="1"')
        ui.label(text)
