"""Errors of calls and files as notifications on the page, and not as tracebacks in the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import ui

from partedvae.cli.connection import with_options
from partedvae.common.click_errors import message_of
from partedvae.common.data_error import DataError
from partedvae.errors import PartedVAEError
from partedvae.serving.errors import ServingError


@contextmanager
def errors_notified() -> Iterator[None]:
    """Show the errors of the block that a visitor can do something about; the block ends there."""
    try:
        yield
    except (PartedVAEError, ServingError, DataError, OSError) as error:
        ui.notify(with_options(message_of(error)), type="negative", multi_line=True, close_button="Dismiss")
