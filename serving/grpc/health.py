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
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from partedvae.serving.errors import ModelNotFoundError

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN

MAX_SHOWN = 100
"""Characters of an unknown service's name that are shown."""
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
        self._stopped = False
        self._changed = asyncio.Event()

    def is_ready(self) -> bool:
        """Report whether the services are SERVING."""
        return not self._stopped and self._can_answer()

    def stop(self) -> None:
        """Report NOT_SERVING from now on, to every Watch stream too, which ends with it."""
        self._stopped = True
        self._changed.set()

    async def run(self) -> None:
        """Notify the Watch streams of changes, until the task is cancelled: one look for all of them."""
        last = self.is_ready()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            ready = self.is_ready()
            if ready != last:
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            last = ready

    async def Check(
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> HealthCheckResponse:
        """Return the status of a service; NOT_FOUND for an unknown service."""
        response = self._response(request.service)
        if response.status == SERVICE_UNKNOWN:
            known = ["", *self._services]
            raise ModelNotFoundError(f"no service {request.service[:MAX_SHOWN]!r}; choose from {known}")
        return response

    async def Watch(
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[HealthCheckResponse]:
        """Yield the status of a service immediately and after each change."""
        last = None
        while True:
            stopped, changed = self._stopped, self._changed
            response = self._response(request.service)
            if response != last:
                yield response
            last = response
            if stopped:
                return
            await changed.wait()

    def _response(self, service: str) -> HealthCheckResponse:
        if service and service not in self._services:
            return HealthCheckResponse(status=SERVICE_UNKNOWN)
        healthy = self.is_ready() if service else not self._stopped
        return HealthCheckResponse(status=SERVING if healthy else NOT_SERVING)
