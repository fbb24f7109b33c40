"""Prometheus metrics: queueing, inference and call durations, batch sizes, loaded models and their devices.

`Metrics` receives events from the batcher, the model repository and the handlers of calls; without --metrics-address it
is not created. Label children are cached, so that an event costs about a microsecond.

The number of calls is `partedvae_request_seconds_count`, by RPC and status code: INVALID_ARGUMENT for invalid requests,
RESOURCE_EXHAUSTED for those rejected by a full queue. Labels have few values; version numbers, which only grow, are not
labels.

With several workers the supervisor adds up the metrics that they report (`partedvae.serving.metrics.aggregation`).
"""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from partedvae.serving.repository.table import VersionStatus

QUEUE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""From less than the duration of a small model's batch to longer than clients wait."""
INFERENCE_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""One session run: from one small image (a quarter of a millisecond) to 256 large ones on one core (seconds)."""
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""One call: the target for one image is 0.01 s; a long stream takes 30 s."""
LAG_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""From what a busy machine causes to what callers notice; no request should hold the event loop for 0.02 s."""
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Powers of two up to the largest batch."""

COMBINED_BY: Mapping[str, Callable[[list[float]], float]] = {
    "partedvae_model_versions": max,
    "partedvae_model_served_version": min,
    "partedvae_execution_provider_info": max,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}
"""How the gauges of several workers are combined; all others are added."""


class Metrics:
    """All metrics of one process. Thread-safe.

    Implements `BatchObserver` of `partedvae.serving.batching.batcher` and `RepositoryObserver` of
    `partedvae.serving.repository.repository`, and `CallObserver` of `partedvae.serving.grpc.call_policy`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create and register all metrics; a registry accepts them only once."""
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
        waiting = Gauge("partedvae_queue_rows", "Images in the queue.", graph, registry=registry)
        request = Histogram(
            "partedvae_request_seconds",
            "Time from the arrival of a request to its reply, by status code.",
            rpc,
            registry=registry,
            buckets=REQUEST_SECONDS,
        )
        in_flight = Gauge("partedvae_requests_in_flight", "Active requests.", registry=registry)
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
            "Versions of a model in the repository, by state.",
            ["model", "state"],
            registry=registry,
        )
        self._served = Gauge(
            "partedvae_model_served_version",
            "Version used when a request names none; 0 if there is none. Workers switch one after the other: this is "
            "the oldest. Exact up to 2^53.",
            ["model"],
            registry=registry,
        )
        self._provider = Gauge(
            "partedvae_execution_provider_info",
            "1 for the ONNX Runtime execution provider of the served version.",
            ["model", "provider"],
            registry=registry,
        )
        self._lag = Histogram(
            "partedvae_event_loop_lag_seconds",
            "How late the event loop ran a callback, because something else held it.",
            registry=registry,
            buckets=LAG_SECONDS,
        )
        self._budget = Gauge(
            "partedvae_memory_budget_bytes", "Maximum memory of requests and replies.", registry=registry
        )
        self._reserved = Gauge(
            "partedvae_memory_reserved_bytes",
            "Memory of requests and replies that is reserved, by kind.",
            ["kind"],
            registry=registry,
        )
        self._evicted = Counter(
            "partedvae_calls_evicted", "Calls that were ended for others, by reason.", ["reason"], registry=registry
        )
        self._models: set[str] = set()
        self._providers: set[tuple[str, str]] = set()
        self._in_flight = in_flight
        # Bound methods of the label children, because looking up a child costs more than the update.
        self._of_graph: Callable[[str, str], tuple[Callable[[float], None], ...]] = cache(
            lambda model, name: tuple(h.labels(model, name).observe for h in (queue, inference, rows))
        )
        self._lock = threading.Lock()
        self._queued: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
        """Queued rows by version of a model's graph, without those that have none."""
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
        """Record a session run; see `partedvae.serving.batching.batcher.BatchObserver`."""
        observe_queue, observe_inference, observe_rows = self._of_graph(model, graph)
        for seconds in queue_seconds:
            observe_queue(seconds)
        observe_inference(inference_seconds)
        observe_rows(rows)

    def queue_rows(self, model: str, version: int, graph: str, rows: int) -> None:
        """Record the number of queued rows; see `partedvae.serving.batching.batcher.BatchObserver`."""
        with self._lock:  # The gauge is the sum over versions, of which two have calls while one replaces the other.
            queued = self._queued[model, graph]
            queued[version] = rows
            if not rows:
                del queued[version]
            self._set_waiting(model, graph)(sum(queued.values()))

    def rpc_started(self) -> None:
        """Record that a call started; `rpc_done` must follow."""
        self._in_flight.inc()

    def rpc_done(self, method: str, code: str, seconds: float, images: int) -> None:
        """Record that a call ended.

        Args:
            method: name of the method without its service, "ExtractFeatures".
            code: name of the status, "OK".
            seconds: duration of the call.
            images: images that were sent or asked for.
        """
        self._in_flight.dec()
        self._observe_request(method, code)(seconds)
        if images:
            self._count_images(method)(images)

    def lag(self, seconds: float) -> None:
        """Record how late the event loop was; see `partedvae.serving.metrics.lag`."""
        self._lag.observe(seconds)

    def memory_budget(self, size: int) -> None:
        """Record the limit of the memory of requests and replies, in bytes."""
        self._budget.set(size)

    def memory_reserved(self, kind: str, size: int) -> None:
        """Record how much of the budget is reserved.

        Args:
            kind: what it is reserved for, "messages" or "work".
            size: all bytes that are reserved for it now.
        """
        self._reserved.labels(kind).set(size)

    def call_evicted(self, reason: str) -> None:
        """Record that a call was ended for others; the reason is one of a few fixed words."""
        self._evicted.labels(reason).inc()

    def load_done(self, model: str, ok: bool) -> None:
        """Record a version that was loaded or refused; see `RepositoryObserver`."""
        self._loads.labels(model, "loaded" if ok else "refused").inc()

    def models_changed(self, statuses: Sequence[VersionStatus]) -> None:
        """Record the versions that are served; see `partedvae.serving.repository.repository.RepositoryObserver`."""
        tally = Tally((status.name, "ready" if status.ready else "broken") for status in statuses)
        served = {status.name: status for status in statuses if status.is_default}
        self._models |= {status.name for status in statuses}
        self._providers |= {(status.name, status.provider) for status in served.values()}
        # Label values that no longer apply are set to 0, so that alerts on them end.
        for name in self._models:
            for state in ("ready", "broken"):
                self._versions.labels(name, state).set(tally[name, state])
            self._served.labels(name).set(served[name].version if name in served else 0)
        known = {(status.name, status.version) for status in statuses}
        with self._lock:
            for (name, _), queued in self._queued.items():
                for version in [each for each in queued if (name, each) not in known]:
                    del queued[version]
        for name, provider in self._providers:
            self._provider.labels(name, provider).set(name in served and served[name].provider == provider)
