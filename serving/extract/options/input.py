"""The options with which `extract` reads its INPUT. Imports nothing heavy: the command's `--help` needs it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from partedvae.common.click_numbers import FiniteFloatRange
from partedvae.common.click_options import ExplicitOption
from partedvae.common.click_paths import LocalPath, any_path
from partedvae.serving.extract.sources.options import PATH_STYLES, READ_TIMEOUT, InputOptions

input_argument = click.argument("source", metavar="INPUT", type=any_path)
"""The INPUT, which `partedvae.serving.extract.sources.open.open_source` opens."""

_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "path_style",
        {
            "type": click.Choice(PATH_STYLES),
            "default": "relative",
            "show_default": True,
            "help": "What the column path has: the name in the folder, prefix or list; INPUT as typed and that name; "
            "the absolute path; or the URL.",
        },
    ),
    (
        "path_column",
        {
            "metavar": "NAME",
            "help": "Of a table: the column of paths, URLs or images. By default the only one with a usual name, such "
            "as path, file or url.",
        },
    ),
    (
        "columns",
        {
            "metavar": "A,B",
            "default": "",
            "help": "Pass on these columns of a table, or all; of tar archives, the members of a sample with these "
            "endings.",
        },
    ),
    (
        "root",
        {
            "metavar": "FOLDER",
            "type": any_path,
            "help": "The folder or URL of the relative paths of a list; by default the list's own.",
        },
    ),
    (
        "data",
        {
            "type": LocalPath(path_type=Path),
            "default": Path("data"),
            "show_default": True,
            "help": "Folder of the data sets, such as mnist:test.",
        },
    ),
    (
        "read_timeout",
        {
            "type": FiniteFloatRange(min=0, min_open=True),
            "default": READ_TIMEOUT,
            "show_default": True,
            "metavar": "SECONDS",
            "help": "Time that one attempt to read from a URL may take.",
        },
    ),
)


def input_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options of the input to a command, which gets them as `reading`.

    Args:
        names: of the parameters to add, such as `data`; none for all. Others have their defaults.
    """
    chosen = [(name, settings) for name, settings in _OPTIONS if not names or name in names]

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            values = {name: kwargs.pop(name) for name, _ in chosen}
            values["data_dir"] = values.pop("data")
            given = values.pop("columns", "")
            columns = tuple(name.strip() for name in given.split(",") if name.strip())
            return command(*args, reading=InputOptions(columns=columns, **values), **kwargs)

        for name, settings in reversed(chosen):
            wrapper = click.option(f"--{name.replace('_', '-')}", cls=ExplicitOption, **settings)(wrapper)
        return wrapper

    return add
