"""The click command class of training and export: errors in the input become messages, without a traceback."""

from __future__ import annotations

from typing import Any

import click


class ErrorReportingCommand(click.Command):
    """A command that exits with status 1 and a message when its input cannot be used."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            click.ClickException: the command raised ValueError (which all errors of training are) or OSError.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # The reader of standard output has gone; click exits quietly.
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error)) from error
