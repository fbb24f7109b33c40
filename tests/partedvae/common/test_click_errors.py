"""Exceptions of commands become messages."""

from __future__ import annotations

import os

import click
import pytest
from click.testing import CliRunner

from partedvae.common.click_errors import click_errors, message_of


def run(error: Exception) -> tuple[int, str]:
    @click.command()
    @click.option("--count", default=1)
    @click_errors(KeyError, OSError)
    def failing(count: int) -> None:
        raise error

    result = CliRunner().invoke(failing, [])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_named_kinds_become_a_message() -> None:
    """Exit code 1 and the message, without a traceback."""
    assert run(KeyError("digit")) == (1, "Error: 'digit'\n")
    assert run(FileNotFoundError(2, "No such file or directory", "a.png")) == (
        1,
        "Error: a.png: No such file or directory\n",
    )


def test_other_exceptions_pass() -> None:
    """A bug keeps its traceback, and click's own errors their exit code."""
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())
    assert run(click.UsageError("--count is wrong"))[0] == 2


def test_a_closed_pipe_passes() -> None:
    """Click ends quietly when the reader of the output has closed it."""
    assert run(BrokenPipeError(32, os.strerror(32))) == (1, "")


def test_errors_of_the_operating_system_have_no_number() -> None:
    """The message has the file and the reason."""
    assert message_of(FileNotFoundError(2, "No such file or directory", "a.png")) == "a.png: No such file or directory"
    assert message_of(OSError(28, "No space left on device")) == "No space left on device"
    assert message_of(ValueError("no server")) == "no server"


def test_names_in_errors_cannot_command_the_terminal() -> None:
    assert message_of(FileNotFoundError(2, "No such file", "\x1b[2Ja.png")) == r"\x1b[2Ja.png: No such file"
    assert message_of(ValueError("2 faults:\n  a\r.png\n  \u202egnp.b")) == "2 faults:\n  a\\r.png\n  \\u202egnp.b"
