"""Marks of tests and modules that run with one of the fronts, since they start servers of their own.

`make test-exhaustive` runs them with the other front. Most tests of shared servers run with both.
"""

from __future__ import annotations

import pytest

FRONTS = ("grpcio", "native")


def _only(front: str) -> pytest.MarkDecorator:
    params = [pytest.param(name, marks=() if name == front else pytest.mark.exhaustive) for name in FRONTS]
    return pytest.mark.parametrize("each_front", params, indirect=True)


GRPCIO_FRONT, NATIVE_FRONT = map(_only, FRONTS)
