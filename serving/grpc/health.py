"""The grpc.health.v1 service: health of the server and of its services, by Check or Watch.

grpcio-health-checking provides the messages and the base class, but its `HealthServicer` is not used: its Watch streams
never end, so that one open Watch would delay a stopping server for the whole grace period, and the first watcher that
disconnects unregisters the others.
"""
# The RPCs have the names of the contract.
# ruff: noqa: N802

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN

POLL_SECONDS = 1.0
"""Interval between checks for a change of status in Watch: models are loaded and removed in other threads."""


class Health(HealthServicer):  # type: ignore[misc]  # the library has no types
    """Reports the server as a whole ("") as SERVING until `stop`, and its services while a model is ready as well.

    A liveness probe of the whole server therefore does not restart a server that only lacks a model, and a readiness
    probe of a service routes no calls to a server that cannot process them.
    """

    def __init__(self, services: Collection[str], can_answer: Callable[[], bool]) -> None:
        """Create the service.

        Args:
            services: full names of the services.
            can_answer: reports whether a model is ready.
        """
        self._services = services
        self._can_answer = can_answer
        self._stopped = asyncio.Event()

    def is_ready(self) -> bool:
        """Report whether the services are SERVING."""
        return not self._stopped.is_set() and self._can_answer()

    def stop(self) -> None:
        """Report NOT_SERVING from now on, to every Watch stream too, which ends with it."""
        self._stopped.set()

    async def Check(
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> HealthCheckResponse:
        """Return the status of a service; NOT_FOUND for an unknown service."""
        response = self._response(request.service)
        if response.status == SERVICE_UNKNOWN:
            known = ["", *self._services]
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r}; choose from {known}")
        return response

    async def Watch(
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[HealthCheckResponse]:
        """Yield the status of a service immediately and after each change."""
        last = self._response(request.service)
        yield last
        stopped = False
        # Not `while not self._stopped.is_set()`: a stop while the last status was being sent would go unreported.
        while not stopped:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), POLL_SECONDS)
            stopped = self._stopped.is_set()
            response = self._response(request.service)
            if response != last:
                yield response
            last = response

    def _response(self, service: str) -> HealthCheckResponse:
        if service and service not in self._services:
            return HealthCheckResponse(status=SERVICE_UNKNOWN)
        healthy = self.is_ready() if service else not self._stopped.is_set()
        return HealthCheckResponse(status=SERVING if healthy else NOT_SERVING)
