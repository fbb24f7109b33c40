"""grpc.health.v1: whether the server and its service answer, asked once (Check) or watched.

Not the servicer of grpcio-health-checking, whose watchers never end: one open Watch would hold a stopping server for
the whole grace, and the first watcher that leaves makes it forget the others.
"""
# The RPCs have the names of the contract.
# ruff: noqa: N802

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


class Health(HealthServicer):  # type: ignore[misc]  # the library has no types
    """SERVING until `stop`, then NOT_SERVING for ever."""

    def __init__(self, services: Collection[str]) -> None:
        """Take the names of the services; the empty name is the server as a whole."""
        self._services = services
        self._stopped = asyncio.Event()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Tell NOT_SERVING to all who ask, and to all watchers, whose streams end with it."""
        self._stopped.set()

    async def Check(
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> HealthCheckResponse:
        """Answer once; NOT_FOUND for a service that is not here."""
        if request.service not in self._services:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"no service {request.service!r}: there are {list(self._services)}"
            )
        return self._response(request.service)

    async def Watch(
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[HealthCheckResponse]:
        """Answer at once and again at the change."""
        first = self._response(request.service)
        yield first
        await self._stopped.wait()
        last = self._response(request.service)
        if last != first:
            yield last

    def _response(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return HealthCheckResponse(status=SERVICE_UNKNOWN)
        return HealthCheckResponse(status=NOT_SERVING if self._stopped.is_set() else SERVING)
