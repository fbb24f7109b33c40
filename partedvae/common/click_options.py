"""Options with former names, which are accepted and not shown."""

from __future__ import annotations

from copy import copy
from typing import Self

import click


class RenamedOption(click.Option):
    """An option whose first flag and first variable are shown in help and errors; others are accepted only."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the help of the option without its former names."""
        return super(RenamedOption, self._without_former_names()).get_help_record(ctx)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return the name of the option in errors, without its former names."""
        return super(RenamedOption, self._without_former_names()).get_error_hint(ctx)

    def _without_former_names(self) -> Self:
        shown = copy(self)
        shown.opts = self.opts[:1]
        if isinstance(self.envvar, list | tuple):
            shown.envvar = self.envvar[0]
        return shown
