"""The command-line options of `partedvae serve`, generated from `ServeConfig`: flags, environment, TOML file.

A flag overrides the environment, the environment overrides the file, and the file overrides the default.
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

from partedvae.common.click_numbers import FiniteFloatRange
from partedvae.common.click_options import RenamedOption
from partedvae.common.click_paths import LocalPath
from partedvae.common.suggest import did_you_mean, nearest
from partedvae.common.text_files import TextError, decode_text
from partedvae.serving.config.serve_config import MIB, ServeConfig, flag, key, options
from partedvae.serving.errors import ConfigError

ENV_PREFIX = "PARTEDVAE_SERVE"
"""Prefix of environment variables: PARTEDVAE_SERVE_MAX_IMAGES for --max-images."""

FILE_TYPES: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a string"),
}
"""Types of TOML values accepted for each type of option, and their description in errors."""

Command = TypeVar("Command", bound=Callable[..., Any])


class ServeOption(RenamedOption):
    """An option whose errors name the source of the value."""

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
    """Add MODELS_DIR, an option for each field of `ServeConfig`, --config and --print-config to a command."""
    types = get_type_hints(ServeConfig)
    for item in reversed(options()):
        command = _option(item, types[item.name])(command)
    command = click.option(
        "--config",
        cls=ServeOption,
        type=LocalPath(path_type=Path, dir_okay=False),
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="TOML file of options, for example: max-images = 100.",
    )(command)
    command = click.option(
        "--print-config",
        cls=ServeOption,
        is_flag=True,
        help="Print the effective options as a TOML file, with the source of each, and exit.",
    )(command)
    return click.argument("models_dir", type=LocalPath(path_type=Path), envvar=f"{ENV_PREFIX}_MODELS_DIR")(command)


def source_of(ctx: click.Context, name: str) -> str:
    """Return the source of an option's value: command line, environment, file or default."""
    match ctx.get_parameter_source(name):
        case ParameterSource.COMMANDLINE:
            return "command line"
        case ParameterSource.ENVIRONMENT:
            return f"environment, {next(filter(os.environ.get, _variables(name)), _variable(name))}"
        case ParameterSource.DEFAULT_MAP:
            return f"file, {ctx.meta[ENV_PREFIX]}"
        case _:
            return "default"


def as_toml(config: ServeConfig, ctx: click.Context) -> str:
    """Return a configuration as a TOML file for --config, with the source of each value as a comment."""
    lines = []
    for name in ("models_dir", *(item.name for item in options())):
        value = getattr(config, name)
        if name == "threads" and value is None:
            lines.append(f"# {key(name)} = {config.threads_each}  # default: available CPUs divided by workers")
        elif name == "memory_mb" and value is None:
            lines.append(f"# {key(name)} = {config.memory_bytes // MIB}  # default: from the available memory")
        elif value is None:
            lines.append(f"# {key(name)} is not set")
        else:
            text = value if isinstance(value, bool | int | float) else str(value)
            lines.append(f"{key(name)} = {json.dumps(text, ensure_ascii=False)}  # {source_of(ctx, name)}")
    return "\n".join(lines)


def misspelt_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a warning for each environment variable whose name is nearly that of an option.

    Other variables with the prefix are ignored: Kubernetes sets PARTEDVAE_SERVE_PORT for a service of that name.
    """
    names = ("models_dir", "config", *(item.name for item in options()))
    known = [variable for name in names for variable in _variables(name)]
    warnings = []
    for variable in environment:
        if variable.startswith(f"{ENV_PREFIX}_") and variable not in known:
            # Compared without the prefix, which would make all names similar.
            near = nearest(variable.removeprefix(f"{ENV_PREFIX}_").lower(), names)
            if near:
                warnings.append(f"the variable {variable} has no effect; did you mean {_variable(near)!r}?")
    return warnings


def _option(item: Field[Any], hint: Any) -> Callable[[Command], Command]:
    bare = _bare(hint)
    if bare is bool:
        return click.option(
            f"{flag(item.name)}/--no-{key(item.name)}",
            cls=ServeOption,
            default=item.default,
            help=item.metadata["help"],
        )
    return click.option(
        *map(flag, _names(item.name)),
        item.name,
        cls=ServeOption,
        envvar=_variables(item.name),
        type=_click_type(item, bare),
        default=item.default,
        metavar=item.metadata["metavar"],
        show_default=item.default is not None,
        help=item.metadata["help"],
    )


def _click_type(item: Field[Any], bare: Any) -> click.ParamType[Any]:
    least, most = item.metadata["least"], item.metadata["most"]
    if get_origin(bare) is Literal:
        return click.Choice(get_args(bare))
    if bare is Path:
        return LocalPath(path_type=Path)
    if bare is int:
        return click.IntRange(least, most)
    if bare is float:
        return FiniteFloatRange(least, most)
    return click.STRING


def _bare(hint: Any) -> Any:
    """Return the type of an option without `| None`."""
    if NoneType in get_args(hint):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    return hint


def _names(name: str) -> list[str]:
    """Return the name of an option, followed by its former name if it has one."""
    former = {item.name: item.metadata["former_name"] for item in options()}.get(name)
    return [name, former] if former else [name]


def _variable(name: str) -> str:
    return f"{ENV_PREFIX}_{name.upper()}"


def _variables(name: str) -> list[str]:
    return [_variable(each) for each in _names(name)]


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Use the values of the file as defaults of the command."""
    if path is not None:
        try:
            ctx.default_map = read_file(path)
        except ConfigError as error:
            raise click.UsageError(str(error), ctx) from error
        ctx.meta[ENV_PREFIX] = path


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file of options.

    Returns:
        The values by name of the option. Their types are checked, their ranges are not.

    Raises:
        ConfigError: the file cannot be read or is not TOML, a key is not an option, an option is given twice, or a
            value has the wrong type.
    """
    try:
        values = tomllib.loads(decode_text(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (TextError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}; write lines like: max-images = 100") from error
    types = get_type_hints(ServeConfig)
    known = {key(each): name for name in types for each in _names(name)}
    read: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            hint = did_you_mean(name, known) or f"; choose from {', '.join(map(key, types))}"
            raise ConfigError(f"{path}: there is no option {name!r}{hint}")
        allowed, words = FILE_TYPES.get(_bare(types[known[name]]), FILE_TYPES[str])
        # In Python, bool is a subclass of int.
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise ConfigError(f"{path}: {name} is {value!r}; expected {words}")
        if known[name] in read:
            both = " and ".join(map(key, _names(known[name])))
            raise ConfigError(f"{path}: {both} are the same option; set only one of them")
        read[known[name]] = value
    return read
