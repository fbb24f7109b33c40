"""Configurations of our server that are measured beside each other: fronts, and precisions of the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import get_args, get_type_hints

import click

from partedvae.serving.bundle import Bundle
from partedvae.serving.config.serve_config import ServeConfig

PACKAGES = {"native": "pygrpc_native"}
"""Modules that fronts need beside the requirements of the server."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A configuration of our server."""

    name: str
    """Shown in the tables."""
    precision: str = "fp32"
    options: tuple[str, ...] = ()
    """Options of `partedvae serve`; the others have their defaults."""


def _choices(option: str) -> tuple[str, ...]:
    """Return the values of an option of the server; none where there is no such option."""
    return get_args(get_type_hints(ServeConfig).get(option))


def fronts() -> tuple[str, ...]:
    """Return the fronts that `partedvae serve --front` offers, without `auto`."""
    return tuple(front for front in _choices("front") if front != "auto") or ("grpcio",)


def installed_fronts() -> tuple[str, ...]:
    """Return the fronts whose packages are installed."""
    return tuple(front for front in fronts() if front not in PACKAGES or find_spec(PACKAGES[front]))


front_option = click.option(
    "--front",
    multiple=True,
    type=click.Choice(fronts()),
    help="Front of the server; repeatable.  [default: all that are installed]",
)


def precisions(selected: Sequence[Variant]) -> list[str]:
    """Return the precisions of some configurations, each once."""
    return list(dict.fromkeys(variant.precision for variant in selected)) or ["fp32"]


def variants(bundle: Bundle, selected: Sequence[str]) -> list[Variant]:
    """Return the configurations to measure: each front, and each front with the int8 graphs if the bundle has them.

    Args:
        bundle: the model.
        selected: fronts from `fronts()`; empty selects those that are installed.
    """
    result = []
    for front in selected or installed_fronts():
        options = ("--front", front) if _choices("front") else ()
        result.append(Variant(name=front, options=options))
        if "int8" in _choices("precision") and any(bundle.folder.glob("*.int8.onnx")):
            result.append(Variant(name=f"{front}, int8", precision="int8", options=(*options, "--precision", "int8")))
    return result
