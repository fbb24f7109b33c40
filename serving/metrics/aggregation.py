"""Adds up the metrics of several worker processes, which report them to the supervisor.

Not by prometheus_client's files, which are mapped into memory: a process that writes into a mapped file is killed by
SIGBUS when the disk is full.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple, Self, TypeAlias

from prometheus_client import Metric
from prometheus_client.registry import Collector

from partedvae.serving.metrics.metrics import COMBINED_BY

KINDS = ("counter", "gauge", "histogram")
Sample: TypeAlias = tuple[str, dict[str, str], float]
"""Name, labels and value."""
Values: TypeAlias = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values of one metric by name of the sample and labels."""


class Family(NamedTuple):
    """One metric with all its samples, of types that JSON has."""

    name: str
    documentation: str
    kind: str
    """One of `KINDS`."""
    samples: list[Sample]

    @classmethod
    def checked(cls, name: object, documentation: object, kind: object, samples: object) -> Self:
        """Return a metric of parts that another process has sent.

        Raises:
            TypeError: a part has another type.
            ValueError: a sample has another number of parts.
        """
        if not isinstance(name, str) or not isinstance(documentation, str) or kind not in KINDS:
            raise TypeError
        if not isinstance(samples, list):
            raise TypeError
        checked: list[Sample] = []
        for sample, labels, value in samples:
            if not isinstance(sample, str) or not isinstance(value, int | float):
                raise TypeError
            checked.append((sample, {str(label): str(text) for label, text in labels.items()}, float(value)))
        return cls(name, documentation, str(kind), checked)


def families(registry: Collector) -> list[Family]:
    """Return all metrics of a registry, without the times at which they were created, which do not add up."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [
                (sample.name, sample.labels, sample.value)
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ],
        )
        for metric in registry.collect()
    ]


class WorkerMetrics(Collector):
    """The metrics of all workers: counters and histograms are added, also of workers that have ended.

    Gauges are those of the workers that run, combined as `COMBINED_BY` says.
    """

    def __init__(self) -> None:
        """Create it for no worker."""
        self._kinds: dict[str, tuple[str, str]] = {}
        self._ended: dict[str, Values] = {}
        self._running: dict[Hashable, dict[str, Values]] = {}

    def update(self, worker: Hashable, metrics: Iterable[Family]) -> None:
        """Replace the metrics of a worker process that runs."""
        current = self._running[worker] = {}
        for family in metrics:
            self._kinds[family.name] = (family.documentation, family.kind)
            current[family.name] = {
                (name, tuple(sorted(labels.items()))): value for name, labels, value in family.samples
            }

    def end(self, worker: Hashable) -> None:
        """Record that a worker process has ended: its counters stay, its gauges do not."""
        for name, values in self._running.pop(worker, {}).items():
            if self._kinds[name][1] != "gauge":
                self._ended[name] = _combined([self._ended.get(name, {}), values], sum)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        for name, (documentation, kind) in list(self._kinds.items()):
            parts = [self._ended.get(name, {}), *(metrics.get(name, {}) for metrics in self._running.values())]
            metric = Metric(name, documentation, kind)
            for (sample, labels), value in _combined(parts, COMBINED_BY.get(name, sum)).items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _combined(parts: Iterable[Values], combine: Callable[[list[float]], float]) -> Values:
    collected: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
    for part in parts:
        for key, value in part.items():
            collected.setdefault(key, []).append(value)
    return {key: combine(values) for key, values in collected.items()}
