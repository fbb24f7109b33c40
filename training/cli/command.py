"""The click command class of training and export: errors in the input become messages, without a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partedvae.common.click_errors import click_errors


class ErrorReportingCommand(click.Command):
    """A command that exits with status 1 and a message when its input cannot be used."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            click.ClickException: the command raised ValueError (which all errors of training are) or OSError.
        """
        return click_errors(ValueError, OSError)(self._invoke)(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            Path.cwd()
        except FileNotFoundError as error:  # Intel MKL, which PyTorch loads, would end the process.
            raise ValueError("the current folder has been deleted; change to another one") from error
        return super().invoke(ctx)
