"""Tests of `partedvae.serving.metrics.aggregation`: the metrics of several workers together."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from partedvae.serving.metrics.aggregation import Family, WorkerMetrics, families
from partedvae.serving.metrics.endpoint import own_registry
from partedvae.serving.metrics.metrics import Metrics
from partedvae.serving.repository.table import VersionStatus


def worker(version: int) -> tuple[Metrics, CollectorRegistry]:
    """Return the metrics of a worker after one call, with another in flight."""
    metrics = Metrics(registry := CollectorRegistry())
    metrics.rpc_started()
    metrics.rpc_started()
    metrics.rpc_done("Classify", "OK", 0.3, 3)
    metrics.queue_rows("tiny", 1, "encoder", 5)
    metrics.memory_budget(1000)
    metrics.memory_reserved("messages", 100 * version)
    metrics.call_evicted("idle")
    status = VersionStatus(name="tiny", version=version, ready=True, reason="", is_default=True, provider="CPU")
    metrics.models_changed([status])
    return metrics, registry


def values(together: WorkerMetrics) -> dict[str, float]:
    """Return all samples by `name{values of the labels}`."""
    return {
        f"{sample.name}{{{','.join(sample.labels.values())}}}": sample.value
        for metric in together.collect()
        for sample in metric.samples
    }


def test_running_workers() -> None:
    """Counters, histograms and most gauges are added; states of models are not."""
    together = WorkerMetrics()
    for version in (3, 4):
        together.update(version, families(worker(version)[1]))
    seen = values(together)
    assert seen["partedvae_request_seconds_count{OK,Classify}"] == 2
    assert seen["partedvae_request_seconds_sum{OK,Classify}"] == 0.6
    assert seen["partedvae_request_seconds_bucket{OK,0.25,Classify}"] == 0
    assert seen["partedvae_request_seconds_bucket{OK,0.5,Classify}"] == 2
    assert seen["partedvae_request_seconds_bucket{OK,+Inf,Classify}"] == 2
    assert seen["partedvae_images_total{Classify}"] == 6
    assert seen["partedvae_calls_evicted_total{idle}"] == 2
    assert seen["partedvae_requests_in_flight{}"] == 2
    assert seen["partedvae_queue_rows{encoder,tiny}"] == 10
    assert seen["partedvae_memory_budget_bytes{}"] == 2000
    assert seen["partedvae_memory_reserved_bytes{messages}"] == 700
    assert seen["partedvae_model_versions{tiny,ready}"] == 1
    assert seen["partedvae_model_served_version{tiny}"] == 3
    assert seen["partedvae_execution_provider_info{tiny,CPU}"] == 1
    assert not any("_created" in name for name in seen)


def test_workers_that_ended() -> None:
    """Their counters stay, their gauges do not; a worker that never reported has none."""
    together = WorkerMetrics()
    metrics, registry = worker(3)
    together.update("first", families(registry))
    metrics.rpc_done("Classify", "OK", 0.3, 3)
    together.update("first", families(registry))
    together.update("second", families(worker(4)[1]))
    together.end("first")
    together.end("first")
    together.end("never reported")
    seen = values(together)
    assert seen["partedvae_request_seconds_count{OK,Classify}"] == 3
    assert seen["partedvae_images_total{Classify}"] == 9
    assert seen["partedvae_requests_in_flight{}"] == 1
    assert seen["partedvae_model_served_version{tiny}"] == 4
    together.end("second")
    seen = values(together)
    assert seen["partedvae_request_seconds_count{OK,Classify}"] == 3
    assert "partedvae_requests_in_flight{}" not in seen


def test_times_of_creation_are_left_out() -> None:
    """All other samples of a registry are reported."""
    metrics, registry = worker(3)
    metrics.lag(0.03)
    names = {sample[0] for family in families(registry) for sample in family.samples}
    there = {sample.name for metric in registry.collect() for sample in metric.samples}
    assert there - names == {name for name in there if name.endswith("_created")} != set()
    assert "partedvae_event_loop_lag_seconds_bucket" in names


def test_only_known_kinds() -> None:
    """The kinds of a worker's metrics are those that a report may have."""
    for family in families(own_registry()) + families(worker(1)[1]):
        assert Family.checked(*family) == family
