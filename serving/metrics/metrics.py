"""What Prometheus is told: how long requests wait, run and take, how large batches are, what is loaded and where.

`Metrics` is told of events by whoever has them (the batcher, the repository of models, the RPC interceptor); nobody
holds one when no metrics were asked for. The label children are looked up once and kept, so that an event costs about a
microsecond.

The number of requests is `partedvae_request_seconds_count`, by RPC and status code: refused ones have INVALID_ARGUMENT,
those turned away by a full queue RESOURCE_EXHAUSTED. Labels have few values: no version numbers, which only ever grow.

With several processes prometheus_client keeps the numbers in files that all of them share
(`partedvae.serving.metrics.endpoint`).
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from partedvae.serving.repository.repository import VersionStatus

QUEUE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""From less than a batch of a small model takes to longer than a caller waits."""
INFERENCE_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""One session run: a quarter of a millisecond is one small image, seconds are 256 large ones on one core."""
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""A whole request: 0.01 s is the goal for one image, 30 s a long stream."""
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Powers of two up to what one run takes."""


class Metrics:
    """All numbers of one process. Safe to use from many threads.

    Implements `BatchObserver` of `partedvae.serving.batching.batcher` and `RepositoryObserver` of
    `partedvae.serving.repository.repository`; the RPC interceptor calls `rpc_started` and `rpc_done`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register everything; once for each registry."""
        graph, rpc = ("model", "graph"), ("rpc", "code")
        queue = Histogram(
            "partedvae_queue_seconds",
            "Time that a request waited for a session.",
            graph,
            registry=registry,
            buckets=QUEUE_SECONDS,
        )
        inference = Histogram(
            "partedvae_inference_seconds",
            "Time of one session run.",
            graph,
            registry=registry,
            buckets=INFERENCE_SECONDS,
        )
        rows = Histogram(
            "partedvae_batch_rows", "Images of one session run.", graph, registry=registry, buckets=BATCH_ROWS
        )
        # A process that has gone has no queue, no requests and no models: "live" leaves its gauges out.
        waiting = Gauge(
            "partedvae_queue_rows", "Images that wait.", graph, registry=registry, multiprocess_mode="livesum"
        )
        request = Histogram(
            "partedvae_request_seconds",
            "Time from the arrival of a request to its answer, by status code.",
            rpc,
            registry=registry,
            buckets=REQUEST_SECONDS,
        )
        in_flight = Gauge(
            "partedvae_requests_in_flight", "Requests in hand.", registry=registry, multiprocess_mode="livesum"
        )
        images = Counter(
            "partedvae_images", "Images that were sent or asked for in requests.", ["rpc"], registry=registry
        )
        self._loads = Counter(
            "partedvae_model_loads",
            "Versions of models that were loaded, or refused as broken.",
            ["model", "outcome"],
            registry=registry,
        )
        self._versions = Gauge(
            "partedvae_model_versions",
            "Versions of a model that are there, by state.",
            ["model", "state"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._served = Gauge(
            "partedvae_model_served_version",
            "Version that answers when none is named; 0 when there is none. Workers take up a new one one by one: this "
            "is the oldest.",
            ["model"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._provider = Gauge(
            "partedvae_execution_provider_info",
            "1 for ONNX Runtime's execution provider that the served version runs on.",
            ["model", "provider"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._models: set[str] = set()
        self._providers: set[tuple[str, str]] = set()
        self._in_flight = in_flight
        # Methods bound to the children, because finding a child costs more than counting.
        self._of_graph: Callable[[str, str], tuple[Callable[[float], None], ...]] = cache(
            lambda model, name: tuple(h.labels(model, name).observe for h in (queue, inference, rows))
        )
        self._set_waiting: Callable[[str, str], Callable[[float], None]] = cache(
            lambda model, name: waiting.labels(model, name).set
        )
        self._observe_request: Callable[[str, str], Callable[[float], None]] = cache(
            lambda method, code: request.labels(method, code).observe
        )
        self._count_images: Callable[[str], Callable[[float], None]] = cache(lambda method: images.labels(method).inc)

    def batch_done(
        self,
        model: str,
        version: int,
        graph: str,
        rows: int,
        requests: int,
        queue_seconds: Sequence[float],
        inference_seconds: float,
    ) -> None:
        """Count a session run; see `partedvae.serving.batching.batcher.BatchObserver`."""
        observe_queue, observe_inference, observe_rows = self._of_graph(model, graph)
        for seconds in queue_seconds:
            observe_queue(seconds)
        observe_inference(inference_seconds)
        observe_rows(rows)

    def queue_rows(self, model: str, graph: str, rows: int) -> None:
        """Note how many rows wait; see `partedvae.serving.batching.batcher.BatchObserver`."""
        self._set_waiting(model, graph)(rows)

    def rpc_started(self) -> None:
        """Note that a request arrived; `rpc_done` must follow."""
        self._in_flight.inc()

    def rpc_done(self, method: str, code: str, seconds: float, images: int) -> None:
        """Count a request.

        Args:
            method: "ExtractFeatures", without the service.
            code: name of the status, "OK".
            seconds: from its arrival to its end.
            images: that it sent or asked for.
        """
        self._in_flight.dec()
        self._observe_request(method, code)(seconds)
        if images:
            self._count_images(method)(images)

    def load_done(self, model: str, ok: bool) -> None:
        """Count a version that was loaded or refused; see `RepositoryObserver`."""
        self._loads.labels(model, "loaded" if ok else "refused").inc()

    def models_changed(self, statuses: Sequence[VersionStatus]) -> None:
        """Note what is served; see `partedvae.serving.repository.repository.RepositoryObserver`."""
        tally = Tally((status.name, "ready" if status.ready else "broken") for status in statuses)
        served = {status.name: status for status in statuses if status.is_default}
        self._models |= {status.name for status in statuses}
        self._providers |= {(status.name, status.provider) for status in served.values()}
        # What is no longer so becomes 0 rather than vanishing: shared files cannot forget.
        for name in self._models:
            for state in ("ready", "broken"):
                self._versions.labels(name, state).set(tally[name, state])
            self._served.labels(name).set(served[name].version if name in served else 0)
        for name, provider in self._providers:
            self._provider.labels(name, provider).set(name in served and served[name].provider == provider)
