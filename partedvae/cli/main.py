"""The `partedvae` command, whose subcommands are installed entry points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from partedvae.cli.standard_streams import open_standard_streams
from partedvae.cli.system_errors import system_errors_reported
from partedvae.cli.termination import exit_on_termination
from partedvae.common.suggest import did_you_mean

GROUP = "partedvae.commands"
PACKAGE = "partedvae"
"""A missing module of this package is a bug, never an extra that is not installed."""
SECTIONS = {
    "Quick start": ("demo",),
    "Training": ("data", "describe", "train", "evaluate", "figures", "compare", "reproduce"),
    "Models": ("export", "serve", "health"),
    "Serving client": ("models", "classify", "generate", "traverse", "transfer"),
    "Batch extraction": ("extract", "suggest"),
    "Web pages": ("explore",),
}
"""Commands by their heading in `partedvae --help`; all others are under `OTHER`."""
OTHER = "Other commands"


class MissingExtraError(click.ClickException):
    """A command needs a package that is not installed."""

    def __init__(self, entry_point: EntryPoint, module: str) -> None:
        """Build the message.

        Args:
            entry_point: of the command, with the extra that it needs.
            module: the missing package.
        """
        extras = f"[{','.join(entry_point.extras)}]" if entry_point.extras else ""
        super().__init__(
            f"{entry_point.name!r} needs {module}, which is not installed; "
            f"install it with: pip install 'partedvae{extras}'"
        )
        self.module = module


class EntryPointGroup(click.Group):
    """A group whose commands are the entry points of `partedvae.commands`."""

    @cached_property
    def entry_points(self) -> dict[str, EntryPoint]:
        """The installed commands by name, not yet loaded."""
        return {entry_point.name: entry_point for entry_point in sorted(entry_points(group=GROUP))}

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, also without standard streams."""
        open_standard_streams()
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments, which writes --help and --version."""
        with system_errors_reported():
            return super().make_context(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(self.entry_points)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        entry_point = self.entry_points.get(cmd_name)
        if entry_point is None:
            return None
        with _missing_extra_reported(entry_point):
            command: click.Command = entry_point.load()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings, each with the first sentence of its help."""
        known = {name for names in SECTIONS.values() for name in names}
        sections = {**SECTIONS, OTHER: tuple(name for name in self.entry_points if name not in known)}
        width = max(map(len, self.entry_points), default=0)
        for heading, names in sections.items():
            rows = [(name.ljust(width), self._summary(ctx, name)) for name in names if name in self.entry_points]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def _summary(self, ctx: click.Context, name: str) -> str:
        """Return the first sentence of a command's help; click's limit would cut it off."""
        try:
            command = self.get_command(ctx, name)
        except MissingExtraError as error:
            return f"Not available: {error.module} is not installed."
        return "" if command is None else command.get_short_help_str(limit=1000)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the requested command; the error for an unknown one suggests the nearest."""
        name = args[0]
        if name not in self.entry_points and not name.startswith("-"):
            hint = did_you_mean(name, self.entry_points) or f"; the commands are {', '.join(self.entry_points)}"
            ctx.fail(f"no command {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the requested command; Ctrl-C ends it with exit code 130, as in a shell."""
        try:
            with exit_on_termination(), system_errors_reported():
                return super().invoke(ctx)
        except ModuleNotFoundError:
            if ctx.invoked_subcommand is None:
                raise  # Raised while loading, which `get_command` reports.
            with _missing_extra_reported(self.entry_points[ctx.invoked_subcommand]):
                raise
        except KeyboardInterrupt:
            click.echo(err=True)  # Ends the line of the terminal's ^C.
            raise click.exceptions.Exit(130) from None


@contextmanager
def _missing_extra_reported(entry_point: EntryPoint) -> Iterator[None]:
    """Report a missing third-party package as `MissingExtraError`; a missing module of this package is a bug."""
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

    'partedvae demo' runs all steps on MNIST; 'partedvae COMMAND --help' describes a command and its options.
    """
