"""A dozen attacks on a real server beside a client that behaves well; `make attack` runs all of them, for longer."""

from __future__ import annotations

import math

import pytest

from benchmarks.attack.http2 import CLOSED
from benchmarks.attack.registry import ATTACKS
from tests.serving.attack.conftest import SessionOf

SECONDS = 2.0
LONGER = {"idle-streams": 7.0, "watch-flood": 7.0, "huge-shape": 7.0}
"""Seconds of attacks on the turns of others: longer than the good client waits."""
UNENDING = {"sent", "reset by the server", CLOSED, "no answer until the end"}
"""Outcomes of requests that are not meant to get an answer."""
OVERLOADED = "RESOURCE_EXHAUSTED"

EXPECTED: dict[str, set[str]] = {
    "refused-large": {"INVALID_ARGUMENT", OVERLOADED},
    "refused-kinds": {"INVALID_ARGUMENT", "NOT_FOUND", OVERLOADED},
    "repeated-field": {"INVALID_ARGUMENT", OVERLOADED},
    "open-inference-field": {"INVALID_ARGUMENT", "NOT_FOUND", OVERLOADED, "OK"},
    "compressed-bomb-to-health": {"INVALID_ARGUMENT", "UNAUTHENTICATED", "UNIMPLEMENTED", OVERLOADED, *UNENDING},
    "unread-replies": {OVERLOADED, *UNENDING},
    "unfinished-requests": {OVERLOADED, "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", *UNENDING},
    "pixel-bombs": {"OK", "INVALID_ARGUMENT", OVERLOADED, "DEADLINE_EXCEEDED"},
    "progressive-jpeg": {"OK", "INVALID_ARGUMENT", OVERLOADED, "DEADLINE_EXCEEDED"},
    "watch-flood": {OVERLOADED, *UNENDING},
    "idle-streams": {OVERLOADED, "DEADLINE_EXCEEDED", *UNENDING},
    "huge-shape": {"INVALID_ARGUMENT"},
    "rapid-reset": UNENDING,
    "wrong-tokens": {"UNAUTHENTICATED", OVERLOADED},
}
"""Statuses that an attacker may get, by attack."""
BY_OPTIONS = sorted(EXPECTED, key=lambda each: ATTACKS[each].options)
"""Those with the same options are tried on the same server."""


NATIVE = (
    "refused-kinds",
    "unread-replies",
    "unfinished-requests",
    "pixel-bombs",
    "idle-streams",
    "huge-shape",
    "rapid-reset",
)
"""Attacks that the native front stands as well; docs/SERVING.md states those that it does not."""
ALWAYS = (("native", "pixel-bombs"),)
"""What `make test` runs; `make test-exhaustive` runs the others, and those of the front grpcio."""
WITH_FRONTS = [
    pytest.param(front, name, marks=() if (front, name) in ALWAYS else pytest.mark.exhaustive)
    for front, names in (("grpcio", EXPECTED), ("native", NATIVE))
    for name in BY_OPTIONS
    if name in names
]


@pytest.mark.slow
@pytest.mark.parametrize(("front", "name"), WITH_FRONTS)
def test_attack(front: str, name: str, session_of: SessionOf) -> None:
    """Memory stays below its bound and goes back, the good client's calls succeed, and the attacker gets a status."""
    if front == "native":
        pytest.importorskip("pygrpc_native")
    attack = ATTACKS[name]
    report = session_of(attack.options, front).run(attack, LONGER.get(name, SECONDS), math.inf)
    assert report.problems == ()
    assert set(report.outcomes) - {"no answer until the end"} <= EXPECTED[name]
    assert report.during.calls > 0
    assert report.during.failures == 0
    assert report.peak.memory_bytes <= report.bounds.peak_bytes
