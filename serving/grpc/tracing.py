"""OpenTelemetry tracing of calls (extra `otel`). The OTEL_* variables configure the exporter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from partedvae.serving.errors import ConfigError


@contextmanager
def tracing() -> Iterator[grpc.aio.ServerInterceptor]:
    """Trace calls within the block, and export the remaining spans at its end.

    Yields:
        The server's outermost interceptor.

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
        yield aio_server_interceptor(tracer_provider=provider)  # type: ignore[no-untyped-call]  # half typed
    finally:
        provider.shutdown()
