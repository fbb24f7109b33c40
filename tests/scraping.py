"""Scrapes the metrics of a server."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.processes import ServerProcess

METRICS = ("--metrics-address", "127.0.0.1:0")
"""Options of a server whose metrics are scraped."""


def scrape(address: str) -> dict[str, float]:
    """Return all samples by `name{label="value",…}`, with labels in alphabetical order."""
    with urllib.request.urlopen(f"http://{address}/metrics") as reply:
        text = reply.read().decode()
    return {
        sample.name + "{" + ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items())) + "}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metrics_address(server: ServerProcess) -> str:
    """Return HOST:PORT of the metrics of a server started with `METRICS`."""
    match = re.search(r"metrics on http://(\S+)/metrics", server.log_file.read_text())
    assert match is not None
    return match[1]


def metrics_of(server: ServerProcess) -> dict[str, float]:
    """Return all samples of a server started with `METRICS`."""
    return scrape(metrics_address(server))


def get(server: ServerProcess, path: str) -> tuple[int, str]:
    """Return status and body of a path of the metrics' port."""
    try:
        with urllib.request.urlopen(f"http://{metrics_address(server)}{path}") as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def active_calls(server: ServerProcess) -> float:
    """Return the number of active calls of a server."""
    return metrics_of(server)["partedvae_requests_in_flight{}"]
