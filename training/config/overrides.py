"""`--set KEY=VALUE`: typed overrides of single fields of a configuration, by dotted name."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from partedvae.common.runs.old_names import CONFIG_KEYS
from partedvae.common.suggest import did_you_mean
from partedvae.training.config.train_config import TrainConfig

OPTIONS = ("recipe", "method", "labels")
"""Fields with options of their own, from which others follow: a run without labels has no exchange."""
TRUE_WORDS, FALSE_WORDS = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def settable_keys() -> dict[str, Any]:
    """Return the type of every field that `--set` accepts, by dotted name."""
    return dict(_fields_of(TrainConfig, ""))


def describe_keys() -> str:
    """Return a line per key that `--set` accepts, with the kind of its values."""
    keys = settable_keys()
    width = max(map(len, keys))
    return "\n".join(f"{key:<{width}}  {_describe(kind)}" for key, kind in keys.items())


def apply_overrides(config: TrainConfig, settings: Iterable[str]) -> TrainConfig:
    """Return the configuration with each "key=value" applied.

    Args:
        config: the configuration.
        settings: overrides, applied in order.

    Raises:
        ValueError: a key is unknown (the message has the nearest one), or a value has another type or is out of range.
    """
    keys = settable_keys()
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting!r} is not KEY=VALUE; '--set help' lists the keys")
        key = CONFIG_KEYS.get(key, key)
        if key in OPTIONS:
            raise ValueError(f"--set has no key {key!r}; use the option --{key}, which sets what follows from it too")
        if key not in keys:
            raise ValueError(f"--set has no key {key!r}{_nearest(key, keys)}")
        config = _replace(config, key.split("."), _parse(key, text, keys[key]))
    return config


def _fields_of(section: type, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _fields_of(kind, f"{prefix}{field.name}.")
        elif field.name not in ("factors", "dataset", "image_size", *OPTIONS):
            # The others follow from the data set and from options.
            yield prefix + field.name, kind


def _nearest(key: str, keys: Iterable[str]) -> str:
    """Return a suggestion of the nearest key; a name without its section matches that field."""
    keys = list(keys)
    same_leaf = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]]
    if same_leaf:
        return f"; did you mean {same_leaf[0]!r}?"
    return did_you_mean(key, keys) or f"; choose from {', '.join(keys)}"


def _replace(section: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    return dataclasses.replace(section, **{head: _replace(getattr(section, head), rest, value) if rest else value})


def _parse(key: str, text: str, kind: Any) -> Any:
    try:
        return _convert(text, kind)
    except ValueError:
        raise ValueError(f"--set {key}={text!r}: expected {_describe(kind)}") from None


def _convert(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in TRUE_WORDS + FALSE_WORDS:
            raise ValueError(text)
        return text.lower() in TRUE_WORDS
    if kind is int:
        return int(text)
    if kind is float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(text)
        return number
    if typing.get_origin(kind) is tuple:
        element, *others = typing.get_args(kind)
        separator = ";" if typing.get_origin(element) is tuple else ","
        # Only a tuple of tuples may be empty.
        parts = text.split(separator) if text.strip() or separator == "," else []
        values = tuple(_convert(part.strip(), element) for part in parts)
        if Ellipsis not in others and len(values) != 1 + len(others):
            raise ValueError(text)
        return values
    if typing.get_origin(kind) is typing.Literal and text not in typing.get_args(kind):
        raise ValueError(text)
    return text


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        if typing.get_origin(typing.get_args(kind)[0]) is tuple:
            return "pairs of comma-separated integers, separated by semicolons"
        count = "" if Ellipsis in typing.get_args(kind) else f"{len(typing.get_args(kind))} "
        return f"{count}comma-separated integers"
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}.get(kind, str(kind))
