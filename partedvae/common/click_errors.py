"""Errors of commands: exceptions that a user can do something about become a message and exit code 1."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from partedvae.common.file_names import in_one_line

P = ParamSpec("P")
R = TypeVar("R")


def click_errors(*kinds: type[Exception]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that raises exceptions of these kinds as `click.ClickException`.

    It goes directly above the function of a command, below its options:

        @click.command()
        @click.option(...)
        @click_errors(PartedVAEError, OSError)
        def models(...): ...

    A `BrokenPipeError` passes: the reader of the output has closed it, and click ends quietly.
    """

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(command)
        def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return command(*args, **kwargs)
            except BrokenPipeError:
                raise
            except kinds as error:
                raise click.ClickException(message_of(error)) from error

        return reporting

    return decorate


def message_of(error: Exception) -> str:
    """Return the message of an error for a user; that of an operating system error without its number.

    Control characters of names in it, which a terminal would obey, are escaped; it may have several lines.
    """
    return "\n".join(map(in_one_line, _text_of(error).split("\n")))


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
