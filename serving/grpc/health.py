"""grpc.health.v1: whether the server and its service answer, asked once (Check) or watched.

Not the servicer of grpcio-health-checking, whose watchers never end: one open Watch would hold a stopping server for
the whole grace, and the first watcher that leaves makes it forget the others.
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
"""How often a watcher's answer is looked at again: models come and go in other threads."""


class Health(HealthServicer):  # type: ignore[misc]  # the library has no types
    """Of the server as a whole (""), SERVING until `stop`; of its services, while a model works as well.

    So a probe of the whole restarts nothing that a new model would mend, and a probe of a service sends no calls to
    where none can be answered.
    """

    def __init__(self, services: Collection[str], can_answer: Callable[[], bool]) -> None:
        """Take the names of the services, and what tells whether a model works."""
        self._services = services
        self._can_answer = can_answer
        self._stopped = asyncio.Event()

    def is_ready(self) -> bool:
        """Tell whether the services answer."""
        return not self._stopped.is_set() and self._can_answer()

    def stop(self) -> None:
        """Tell NOT_SERVING to all who ask, and to all watchers, whose streams end with it."""
        self._stopped.set()

    async def Check(
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> HealthCheckResponse:
        """Answer once; NOT_FOUND for a service that is not here."""
        response = self._response(request.service)
        if response.status == SERVICE_UNKNOWN:
            known = ["", *self._services]
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r}: there are {known}")
        return response

    async def Watch(
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[HealthCheckResponse]:
        """Answer at once and again at each change."""
        last = self._response(request.service)
        yield last
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), POLL_SECONDS)
            response = self._response(request.service)
            if response != last:
                yield response
            last = response

    def _response(self, service: str) -> HealthCheckResponse:
        if service and service not in self._services:
            return HealthCheckResponse(status=SERVICE_UNKNOWN)
        well = self.is_ready() if service else not self._stopped.is_set()
        return HealthCheckResponse(status=SERVING if well else NOT_SERVING)
