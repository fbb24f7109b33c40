"""Configurations of our server that are measured beside each other: fronts, and precisions of the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import get_args

import click

from partedvae.serving.bundle import Bundle
from partedvae.serving.config.serve_config import FrontName
from partedvae.serving.grpc.front import PACKAGE

FRONTS = tuple(front for front in get_args(FrontName) if front != "auto")
"""The fronts that `partedvae serve --front` offers."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A configuration of our server."""

    name: str
    """Shown in the tables."""
    precision: str = "fp32"
    options: tuple[str, ...] = ()
    """Options of `partedvae serve`; the others have their defaults."""


def installed_fronts() -> tuple[str, ...]:
    """Return the fronts whose packages are installed."""
    return tuple(front for front in FRONTS if front != "native" or find_spec(PACKAGE) is not None)


front_option = click.option(
    "--front",
    multiple=True,
    type=click.Choice(FRONTS),
    help="Front of the server; repeatable.  [default: all that are installed]",
)


def precisions(selected: Sequence[Variant]) -> list[str]:
    """Return the precisions of some configurations, each once."""
    return list(dict.fromkeys(variant.precision for variant in selected)) or ["fp32"]


def variants(bundle: Bundle, selected: Sequence[str]) -> list[Variant]:
    """Return the configurations to measure: each front, and each front with the int8 graphs if the bundle has them.

    Args:
        bundle: the model.
        selected: fronts from `FRONTS`; empty selects those that are installed.
    """
    result = []
    for front in selected or installed_fronts():
        options = ("--front", front)
        result.append(Variant(name=front, options=options))
        if bundle.int8_encoder_path is not None:
            result.append(Variant(name=f"{front}, int8", precision="int8", options=(*options, "--precision", "int8")))
    return result
