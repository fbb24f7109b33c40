"""OpenTelemetry tracing of calls (extra `otel`). The OTEL_* variables configure the exporter."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from partedvae.serving.errors import ConfigError


@contextmanager
def tracing() -> Iterator[list[grpc.aio.ServerInterceptor]]:
    """Trace calls within the block, and export the remaining spans at its end.

    Yields:
        The server's outermost interceptors.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.grpc import aio_server_interceptor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--otel needs {error.name}, which is not installed; install it with: pip install 'partedvae[serve,otel]'"
        ) from error
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):  # OTEL_SERVICE_NAME is not set.
        resource = resource.merge(Resource({"service.name": "partedvae"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        interceptor = aio_server_interceptor(tracer_provider=provider)  # type: ignore[no-untyped-call]  # half typed
        yield [interceptor, StreamsAsGenerators()]
    finally:
        provider.shutdown()


class StreamsAsGenerators(grpc.aio.ServerInterceptor):
    """Converts streaming handlers that are coroutines to async generators.

    gRPC accepts both; OpenTelemetry's interceptor iterates over the replies, and fails for coroutines.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the method, converted if necessary."""
        handler = await continuation(handler_call_details)
        if handler is None or not inspect.iscoroutinefunction(handler.stream_stream):
            return handler
        respond_each: Callable[[Any, Any], Awaitable[None]] = handler.stream_stream

        async def generator(requests: Any, context: Any) -> AsyncIterator[Any]:
            await respond_each(requests, context)
            remaining: tuple[Any, ...] = ()  # The handler has written all replies.
            for reply in remaining:
                yield reply

        return grpc.stream_stream_rpc_method_handler(
            generator, handler.request_deserializer, handler.response_serializer
        )
