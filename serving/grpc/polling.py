"""How gRPC waits for its sockets. Must not import grpc, which reads its experiments when it is imported."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

EXPERIMENTS = "GRPC_EXPERIMENTS"
"""gRPC's variable of what to enable, or with a minus sign to disable."""
EVENT_ENGINE = "event_engine_poller_for_python"
"""Polling of sockets in threads of their own: since 1.80, and no longer an experiment since 1.83."""


def poll_without_event_engine() -> None:
    """Let gRPC's completion queue poll the sockets, where gRPC leaves the choice; call it before grpc is imported.

    Otherwise each message crosses one more thread before it reaches the event loop, which costs a call without work a
    quarter of its processor time (docs/BENCHMARKS.md). A GRPC_EXPERIMENTS that is set already stays as it is.
    """
    if (1, 80) <= grpc_release() < (1, 83):  # Other releases do not know it, and would log an error.
        os.environ.setdefault(EXPERIMENTS, f"-{EVENT_ENGINE}")


def grpc_release() -> tuple[int, ...]:
    """Return the first two numbers of gRPC's version; none if it is not an installed package, or has no numbers."""
    try:
        return tuple(int(part) for part in version("grpcio").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return ()
