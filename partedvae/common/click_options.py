"""Options whose values cannot be empty, and options with former names, which are accepted and not shown."""

from __future__ import annotations

import os
from copy import copy
from typing import Any, Self

import click


class ExplicitOption(click.Option):
    """An option that is either not given or has a value: an empty one is an error, from whatever source.

    Click takes an empty environment variable for one that is not set. An option that restricts access or resources
    would silently have no effect, because a deployment sets its variable from another one that is missing.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the value of the first of the option's variables that is set.

        Raises:
            click.BadParameter: it is empty, or contains only spaces.
        """
        for variable in self.variables(ctx):
            value = os.environ.get(variable)
            if value is None:
                continue
            if not value.strip():
                raise click.BadParameter(
                    f"the environment variable {variable} is empty: set it to a value, or unset it", ctx, self
                )
            return value
        return None

    def variables(self, ctx: click.Context) -> list[str]:
        """Return the names of the environment variables that set the option, the one that overrides others first."""
        named = [self.envvar] if isinstance(self.envvar, str) else list(self.envvar or ())
        if self.allow_from_autoenv and ctx.auto_envvar_prefix is not None and self.name:
            named.append(f"{ctx.auto_envvar_prefix}_{self.name.upper()}")
        return named

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert the value.

        Raises:
            click.BadParameter: it is empty, contains only spaces, or cannot be converted.
        """
        # The default of an option without a value may be an empty text.
        if isinstance(value, str) and not value.strip() and value != self.default:
            raise click.BadParameter("the value is empty: pass one, or omit the option", ctx, self)
        return super().type_cast_value(ctx, value)


class RenamedOption(ExplicitOption):
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
