"""A load, which repeats one request from several concurrent callers, and its measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


class BenchmarkError(Exception):
    """A measurement failed, or is invalid because requests failed."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A request and the server that it goes to."""

    address: str
    """HOST:PORT."""
    path: str
    """Path of the URL; with gRPC, "/package.Service/Method"."""
    message: bytes
    """Serialized request message with gRPC, otherwise the request body."""
    response_bytes: int
    """Length of a successful response. A gRPC error also has HTTP status 200, but another length."""
    images: int
    """Images in the request."""
    grpc: bool = True

    @property
    def body(self) -> bytes:
        """Request body; gRPC prefixes the message with a zero byte and the length in four bytes."""
        return b"\0" + len(self.message).to_bytes(4, "big") + self.message if self.grpc else self.message


@dataclass(frozen=True, kw_only=True)
class Load:
    """Concurrency and duration of requests, each of which is sent as soon as an earlier one has completed."""

    connections: int
    streams: int
    """Concurrent requests per connection."""
    seconds: float
    """Duration of the measurement; a warm-up comes first."""

    @property
    def warm_up(self) -> float:
        """Duration of the warm-up in seconds."""
        return warm_up_seconds(self.seconds)

    @property
    def concurrent(self) -> int:
        """Maximum number of concurrent requests."""
        return self.connections * self.streams


def warm_up_seconds(seconds: float) -> float:
    """Return the duration of the warm-up before a measurement of some seconds."""
    return seconds / 5


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Throughput and latency percentiles of a load."""

    requests_per_second: float
    images_per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


def summarize(target: Target, load: Load, milliseconds: Sequence[float]) -> Measurement:
    """Return throughput and latency percentiles.

    Args:
        target: the request.
        load: how it was sent.
        milliseconds: latency of each request that completed during the measurement.

    Raises:
        BenchmarkError: no request completed.
    """
    if not len(milliseconds):
        raise BenchmarkError(f"{target.address}{target.path} completed no request within {load.seconds:g} s")
    p50, p90, p99 = (round(float(value), 2) for value in np.percentile(milliseconds, [50, 90, 99]))
    rate = len(milliseconds) / load.seconds
    return Measurement(
        requests_per_second=round(rate, 1),
        images_per_second=round(rate * target.images, 1),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
    )
