"""The options of `partedvae serve`: made from `ServeConfig`, read from flags, environment and a TOML file.

A flag wins over the environment, the environment over the file, the file over the default.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from partedvae.common.suggest import did_you_mean, nearest
from partedvae.serving.config.config import ServeConfig, flag, key, settings
from partedvae.serving.errors import ConfigError

ENV_PREFIX = "PARTEDVAE_SERVE"
"""PARTEDVAE_SERVE_MAX_IMAGES sets --max-images, and PARTEDVAE_SERVE_MODELS_DIR the folder."""

FILE_TYPES: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a string"),
}
"""What a TOML file must hold for a setting of each type, and how to say so."""

Command = TypeVar("Command", bound=Callable[..., Any])


class Setting(click.Option):
    """An option that says where a bad value came from when it was not a flag."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert and check the value."""
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            source = source_of(ctx, str(self.name))
            if not source.startswith(("environment", "file")):
                raise
            raise click.BadParameter(f"{error.message} (from {source})", ctx, self) from error


def serve_options(command: Command) -> Command:
    """Give a command an option for each setting, MODELS_DIR, --config and --print-config."""
    types = get_type_hints(ServeConfig)
    for item in reversed(settings()):
        command = _option(item, types[item.name])(command)
    command = click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="A TOML file of these options, like: max-images = 100.",
    )(command)
    command = click.option(
        "--print-config", is_flag=True, help="Print what is in force, as such a file, and where it came from; then end."
    )(command)
    return click.argument("models_dir", type=click.Path(path_type=Path), envvar=f"{ENV_PREFIX}_MODELS_DIR")(command)


def source_of(ctx: click.Context, name: str) -> str:
    """Tell where the value of a setting came from."""
    match ctx.get_parameter_source(name):
        case ParameterSource.COMMANDLINE:
            return "command line"
        case ParameterSource.ENVIRONMENT:
            return f"environment, {_variable(name)}"
        case ParameterSource.DEFAULT_MAP:
            return f"file, {ctx.meta[ENV_PREFIX]}"
        case _:
            return "default"


def as_toml(config: ServeConfig, ctx: click.Context) -> str:
    """Write a config as a file for --config; each line tells where its value came from. Files are named, not read."""
    lines = []
    for name in ("models_dir", *(item.name for item in settings())):
        value = getattr(config, name)
        if name == "threads" and value is None:
            lines.append(
                f"# {key(name)} = {config.threads_each}  # default: the processors allowed, shared by the workers"
            )
        elif value is None:
            lines.append(f"# {key(name)} is not set")
        else:
            text = value if isinstance(value, bool | int | float) else str(value)
            lines.append(f"{key(name)} = {json.dumps(text, ensure_ascii=False)}  # {source_of(ctx, name)}")
    return "\n".join(lines)


def misspelt_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a complaint for each variable that looks like a setting and is none.

    Others with the prefix are not ours to judge: Kubernetes makes PARTEDVAE_SERVE_PORT for a service of that name.
    """
    names = ("models_dir", "config", *(item.name for item in settings()))
    known = [_variable(name) for name in names]
    complaints = []
    for variable in environment:
        if variable.startswith(f"{ENV_PREFIX}_") and variable not in known:
            # Without the prefix, which would make every two names look alike.
            near = nearest(variable.removeprefix(f"{ENV_PREFIX}_").lower(), names)
            if near:
                complaints.append(f"the variable {variable} sets nothing; did you mean {_variable(near)!r}?")
    return complaints


def _option(item: Field[Any], hint: Any) -> Callable[[Command], Command]:
    bare = _bare(hint)
    if bare is bool:
        return click.option(
            f"{flag(item.name)}/--no-{key(item.name)}", cls=Setting, default=item.default, help=item.metadata["help"]
        )
    return click.option(
        flag(item.name),
        cls=Setting,
        type=_click_type(item, bare),
        default=item.default,
        show_default=item.default is not None,
        help=item.metadata["help"],
    )


def _click_type(item: Field[Any], bare: Any) -> click.ParamType[Any]:
    least, most = item.metadata["least"], item.metadata["most"]
    if get_origin(bare) is Literal:
        return click.Choice(get_args(bare))
    if bare is Path:
        return click.Path(path_type=Path)
    if bare is int:
        return click.IntRange(least, most)
    if bare is float:
        return click.FloatRange(least, most)
    return click.STRING


def _bare(hint: Any) -> Any:
    """Return the type of a setting without `| None`."""
    if NoneType in get_args(hint):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    return hint


def _variable(name: str) -> str:
    return f"{ENV_PREFIX}_{name.upper()}"


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Make the values of the file defaults of the command."""
    if path is not None:
        try:
            ctx.default_map = read_file(path)
        except ConfigError as error:
            raise click.UsageError(str(error), ctx) from error
        ctx.meta[ENV_PREFIX] = path


def read_file(path: Path) -> dict[str, Any]:
    """Read a file of settings.

    Returns:
        The values by name of the setting. Their ranges are not checked yet, their types are.

    Raises:
        ConfigError: it cannot be read, is no TOML, has a key that is no setting, or a value of another type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}; write lines like: max-images = 100") from error
    types = get_type_hints(ServeConfig)
    known = {key(name): name for name in types}
    read = {}
    for name, value in values.items():
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            raise ConfigError(f"{path}: there is no option {name!r}{hint}")
        allowed, words = FILE_TYPES.get(_bare(types[known[name]]), FILE_TYPES[str])
        # In Python, true is a number as well.
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise ConfigError(f"{path}: {name} is {value!r}: give {words}")
        read[known[name]] = value
    return read
