"""The options of `extract` that say where it runs. `--help` loads this module, so it imports little."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from partedvae.cli.connection import typed
from partedvae.common.click_options import ExplicitOption


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The values of the options."""

    engine: str
    """"local" or "ray"."""
    ray_address: str | None
    """None for a Ray of this machine."""
    actors: int | None
    """None for as many as the processors allow."""
    cpus_per_actor: int


_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="local computes in this process, ray in actors of Ray, also on many machines, with the extra 'ray'.",
    ),
    click.option(
        "--ray-address",
        cls=ExplicitOption,
        metavar="HOST:PORT|auto",
        help="With --engine ray: the cluster, of which this machine is a part. Without, Ray is started on this machine "
        "and ends with the command.",
        envvar="RAY_ADDRESS",
        show_envvar=True,
    ),
    click.option(
        "--actors",
        type=click.IntRange(1),
        metavar="N",
        help="With --engine ray: processes that compute.  [default: as many as the processors allow]",
    ),
    click.option(
        "--cpus-per-actor",
        type=click.IntRange(1),
        metavar="N",
        default=1,
        show_default=True,
        help="With --engine ray: processors of each.",
    ),
)
_NAMES = ("engine", "ray_address", "actors", "cpus_per_actor")


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which receives them as `runs`, an `EngineOptions`."""

    @functools.wraps(command)
    def with_engine(**arguments: Any) -> Any:
        runs = EngineOptions(**{name: arguments.pop(name) for name in _NAMES})
        if runs.engine != "ray":
            ctx = click.get_current_context()
            for name in _NAMES[1:]:
                if typed(ctx, name):
                    raise click.UsageError(f"--{name.replace('_', '-')} requires --engine ray")
        return command(runs=runs, **arguments)

    for option in reversed(_OPTIONS):
        option(with_engine)
    return with_engine
