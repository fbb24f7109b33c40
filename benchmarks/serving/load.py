"""A load and what came of it: one request, sent again and again by so many callers at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


class BenchmarkError(Exception):
    """A measurement that cannot be made, or that would mean nothing: requests failed."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One request to one server."""

    address: str
    """HOST:PORT."""
    path: str
    """Of the URL; of gRPC, "/package.Service/Method"."""
    message: bytes
    """The request: a serialized message, or the body where it is no gRPC."""
    answer_bytes: int
    """Length of a right answer. An error has another, and HTTP's status is 200 all the same in gRPC."""
    images: int
    """Images in the request."""
    grpc: bool = True

    @property
    def body(self) -> bytes:
        """What travels: in gRPC the message follows a zero byte and its length in four bytes."""
        return b"\0" + len(self.message).to_bytes(4, "big") + self.message if self.grpc else self.message


@dataclass(frozen=True, kw_only=True)
class Load:
    """How the request is sent."""

    connections: int
    streams: int
    """Requests under way at a time on each connection."""
    seconds: float
    """How long it is measured, after a fifth of that for warming up."""
    rate: float | None = None
    """Requests a second, evenly paced; None sends the next as soon as one is answered."""

    @property
    def warm_up(self) -> float:
        """Seconds before the measurement."""
        return self.seconds / 5

    @property
    def concurrent(self) -> int:
        """Requests under way at a time, at most."""
        return self.connections * self.streams


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of a load."""

    requests_per_second: float
    images_per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


def measured(target: Target, load: Load, milliseconds: Sequence[float]) -> Measured:
    """Summarise the latencies of the requests that were answered while it was measured.

    Raises:
        BenchmarkError: there is none.
    """
    if not len(milliseconds):
        raise BenchmarkError(f"{target.address}{target.path} answered nothing within {load.seconds:g} s")
    p50, p90, p99 = (round(float(value), 2) for value in np.percentile(milliseconds, [50, 90, 99]))
    rate = len(milliseconds) / load.seconds
    return Measured(
        requests_per_second=round(rate, 1),
        images_per_second=round(rate * target.images, 1),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
    )
