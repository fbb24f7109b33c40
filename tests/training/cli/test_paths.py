"""All commands, of which some need torch, refuse URLs where they need a local path."""

from __future__ import annotations

from collections.abc import Iterator

import click

from partedvae.cli.main import main
from partedvae.common.click_paths import LocalPath


def _paths() -> Iterator[tuple[str, click.Parameter]]:
    ctx = click.Context(main)
    for name in main.list_commands(ctx):
        found = main.get_command(ctx, name)
        assert found is not None
        commands = found.commands.values() if isinstance(found, click.Group) else [found]
        yield from ((each.name or name, p) for each in commands for p in each.params if isinstance(p.type, click.Path))


def test_every_path_of_every_command_is_checked() -> None:
    paths = list(_paths())
    assert {"output", "predictions", "results_file", "runs_dir", "data_dir", "model_folder", "models_dir"} <= {
        parameter.name for _, parameter in paths
    }
    assert [(name, parameter.name) for name, parameter in paths if not isinstance(parameter.type, LocalPath)] == []
