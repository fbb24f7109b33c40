"""Marks of tests that run with one of the fronts: those that start a server of their own, which takes seconds.

`make test-exhaustive` runs them with the other front. The tests of a shared server run with both.
"""

from __future__ import annotations

import pytest

FRONTS = ("grpcio", "native")


def _only(front: str) -> pytest.MarkDecorator:
    params = [pytest.param(name, marks=() if name == front else pytest.mark.exhaustive) for name in FRONTS]
    return pytest.mark.parametrize("each_front", params, indirect=True)


GRPCIO_FRONT, NATIVE_FRONT = map(_only, FRONTS)
