"""The click command class of training and export: errors in the input become messages, without a traceback."""

from __future__ import annotations

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
        return click_errors(ValueError, OSError)(super().invoke)(ctx)
