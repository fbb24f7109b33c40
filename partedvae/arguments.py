"""Checks of the arguments of both clients: types and ranges, before protobuf and gRPC see them.

Every check raises `InvalidRequestError`, whose message names the argument, its value and what is accepted.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from numbers import Real

from partedvae.common.suggest import did_you_mean
from partedvae.errors import InvalidRequestError

MAX_UINT32, MAX_INT64, MAX_UINT64 = 2**32 - 1, 2**63 - 1, 2**64 - 1
"""Largest values of the contract's counts and dimensions, of its versions, and of its seeds."""


def check_text(name: str, value: object) -> None:
    """Check that an argument is a str."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{_shown(name, value)}; it must be a str")


def check_integer(name: str, value: object, least: int, most: int | None = None) -> None:
    """Check that an argument is an integer, also one of NumPy, of at least `least` and at most `most`."""
    bounds = f"at least {least}" if most is None else f"{least} to {most}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # Any object may be passed.
    except TypeError:
        raise InvalidRequestError(f"{_shown(name, value)}; it must be an integer, {bounds}") from None
    if isinstance(value, bool):
        raise InvalidRequestError(f"{_shown(name, value)}; it must be an integer, {bounds}")
    if number < least and (least > 0 or most is None):
        raise InvalidRequestError(f"{name} is {value}; it must be at least {least}")
    if number < least or (most is not None and number > most):
        raise InvalidRequestError(f"{name} is {value}; it must be {bounds}")


def check_positive(name: str, value: object, unit: str) -> None:
    """Check that an argument is a finite number above 0 of a unit."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidRequestError(f"{_shown(name, value)}; it must be a number of {unit}")
    if not 0 < float(value) < math.inf:
        raise InvalidRequestError(f"{name} is {value}; it must be more than 0 {unit}, and finite")


def check_path(name: str, value: object) -> None:
    """Check that an argument is the path of a file or a folder."""
    if not isinstance(value, str | os.PathLike):
        raise InvalidRequestError(f"{_shown(name, value)}; it must be a path")
    if isinstance(value, str) and not value.strip():
        raise InvalidRequestError(f"{name} is an empty path; pass the path of a file, or omit {name}=")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that an argument is one of some names."""
    if not isinstance(value, str) or value not in choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise InvalidRequestError(f"{name} is {value!r}; choose from {', '.join(choices)}{hint}")


def check_integers(name: str, value: object, most: int) -> list[int]:
    """Return integers as a list; check that each is at least 0, and that they are not a str or a single one."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidRequestError(f"{_shown(name, value)}; pass a list, such as [0, 1]")
    integers = list(value)
    for item in integers:
        check_integer(f"an entry of {name}", item, 0, most)
    return integers


def check_names(name: str, value: object) -> list[str]:
    """Return names as a list; check that each is a str, and that they are not themselves one."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        example = f", such as [{value!r}]" if isinstance(value, str) else ""
        raise InvalidRequestError(f"{_shown(name, value)}; pass a list of names{example}")
    names = list(value)
    for item in names:
        check_text(f"an entry of {name}", item)
    return names


def _shown(name: str, value: object) -> str:
    return f"{name} is {value!r}" + ("" if value is None else f" ({type(value).__name__})")
