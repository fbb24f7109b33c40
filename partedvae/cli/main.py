"""The `partedvae` command: it finds its subcommands among the installed entry points and loads only what was typed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from partedvae.common.suggest import did_you_mean

GROUP = "partedvae.commands"
PACKAGE = "partedvae"
"""A missing module of this package is a defect, never an extra that was not installed."""


class MissingExtraError(click.ClickException):
    """A command needs a package that is not installed."""

    def __init__(self, entry_point: EntryPoint, module: str) -> None:
        """Name the command, what it lacks, and the extra that brings it."""
        extras = f"[{','.join(entry_point.extras)}]" if entry_point.extras else ""
        super().__init__(
            f"{entry_point.name!r} needs {module}, which is not installed; "
            f"install it with: pip install 'partedvae{extras}'"
        )


class EntryPointGroup(click.Group):
    """A group whose commands are the entry points of `partedvae.commands`."""

    @cached_property
    def entry_points(self) -> dict[str, EntryPoint]:
        """The installed commands by name; nothing of them is loaded yet."""
        return {entry_point.name: entry_point for entry_point in sorted(entry_points(group=GROUP))}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(self.entry_points)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        entry_point = self.entry_points.get(cmd_name)
        if entry_point is None:
            return None
        with _extras_explained(entry_point):
            command: click.Command = entry_point.load()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the typed command, or suggest the nearest."""
        name = args[0]
        if name not in self.entry_points and not name.startswith("-"):
            hint = did_you_mean(name, self.entry_points) or f"; the commands are {', '.join(self.entry_points)}"
            ctx.fail(f"no command {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the typed command; Ctrl-C ends it with the shell's 130."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError:
            if ctx.invoked_subcommand is None:
                raise  # while loading, which `get_command` explains
            with _extras_explained(self.entry_points[ctx.invoked_subcommand]):
                raise
        except KeyboardInterrupt:
            click.echo(err=True)  # closes the terminal's ^C
            raise click.exceptions.Exit(130) from None


@contextmanager
def _extras_explained(entry_point: EntryPoint) -> Iterator[None]:
    """Turn a missing package of others into an answer for the user; a missing module of ours stays what it is."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if not module or module == PACKAGE:
            raise
        raise MissingExtraError(entry_point, module) from error


@click.group(cls=EntryPointGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="partedvae")
def main() -> None:
    """Class-related features of images from few labels: train, export, serve, extract.

    'partedvae COMMAND --help' tells more of a command; 'partedvae demo' shows the whole way on MNIST.
    """
