"""How long the event loop of a server was held, from its metrics."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

METRIC = "partedvae_event_loop_lag_seconds"
SCRAPE_SECONDS = 5.0

Buckets = dict[float, float]
"""Number of samples up to each bound in seconds."""


def scrape(metrics_address: str) -> Buckets:
    """Return the histogram of the lag, summed over workers; empty if the server has none or does not answer."""
    try:
        with urllib.request.urlopen(f"http://{metrics_address}/metrics", timeout=SCRAPE_SECONDS) as reply:
            text = reply.read().decode()
    except OSError:
        return {}
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{METRIC}_bucket"
    }


def largest(before: Buckets, after: Buckets) -> float | None:
    """Return the bound in seconds below which all samples between two scrapes are; None if there are none."""
    new = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
    total = max(new.values(), default=0.0)
    return min((bound for bound, count in new.items() if count >= total), default=None) if total > 0 else None
