"""The tables of all servers, and what ours compares to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.peers.measure import CONNECTIONS, OURS, STREAMS, Result
from benchmarks.serving.concurrent_client import COROUTINES, UNCOALESCED
from benchmarks.serving.load import Measurement
from benchmarks.serving.machine import describe, machine
from benchmarks.serving.ort_alone import Graph, OrtAlone
from benchmarks.serving.paced import describe_generator, latency_cell
from benchmarks.serving.tables import table

NONE = "–"


def report(ort_alone: OrtAlone, results: Sequence[Result]) -> str:
    """Return the results in Markdown."""
    load = " and ".join(
        f"{CONNECTIONS} x {streams} concurrent requests of {images} image{'s' * (images > 1)}"
        for images, streams in STREAMS.items()
    )
    ours = [result for result in results if result.is_ours]
    sections = [
        f"{describe(machine())} Load by h2load on the same processors: {load}.",
        ort_alone.describe(),
        _features(ort_alone, results),
        "Latency of single images at fixed rates, p50 / p99 in ms:",
        table(
            ("server", *(f"{measurement.rate:,.0f} requests/s" for measurement in results[0].paced)),
            [(result.server, *map(latency_cell, result.paced)) for result in results],
        ),
        describe_generator([measurement for result in results for measurement in result.paced]),
    ]
    if ours:
        sections += [
            "What the other servers do not have, generation and our client:",
            _generation(ort_alone, ours),
            _clients(ours),
            "Our best with fp32 beside the best of the others, and beside ONNX Runtime alone:",
            _comparison(
                ort_alone,
                [result for result in ours if result.precision == "fp32"],
                [result for result in results if not result.server.startswith(OURS)],
            ),
        ]
    return "\n\n".join(sections)


def as_json(ort_alone: OrtAlone, results: Sequence[Result]) -> dict[str, Any]:
    """Return the content of bench-peers.json."""
    return {
        "machine": machine(),
        "ort_alone": ort_alone.as_json(),
        "servers": {result.server: asdict(result) for result in results},
    }


def _features(ort_alone: OrtAlone, results: Sequence[Result]) -> str:
    header = (
        "server",
        "1 image per request, requests/s",
        "p50 / p99 ms",
        "64 images per request, images/s",
        "of ORT alone",
        "start, s",
        "memory after the start / the loads, MB",
    )
    rows = [
        (
            result.server,
            f"{result.features[1].requests_per_second:,.0f}",
            _latency(result.features[1]),
            f"{result.features[64].images_per_second:,.0f}",
            f"{ort_alone.share('features', result.features[64].images_per_second, result.precision):.0%}",
            f"{result.start_seconds:.2f}",
            f"{result.resident_megabytes:.0f} / {result.resident_megabytes_after:.0f}",
        )
        for result in results
    ]
    return table(header, rows)


def _generation(ort_alone: OrtAlone, ours: Sequence[Result]) -> str:
    header = (
        "server",
        "generate 1 image, requests/s",
        "p50 / p99 ms",
        "generate 64 images, images/s",
        "of ORT alone",
    )
    rows = [
        (
            result.server,
            f"{result.generate[1].requests_per_second:,.0f}",
            _latency(result.generate[1]),
            f"{result.generate[64].images_per_second:,.0f}",
            f"{ort_alone.share('generate', result.generate[64].images_per_second, result.precision):.0%}",
        )
        for result in ours
    ]
    return table(header, rows)


def _clients(ours: Sequence[Result]) -> str:
    header = ("server", f"AsyncClient, {COROUTINES} coroutines, 1 image per call", "calls/s", "p50 / p99 ms", "ratio")
    rows = [
        (
            result.server,
            client,
            f"{calls.requests_per_second:,.0f}",
            _latency(calls),
            f"{calls.requests_per_second / result.clients[UNCOALESCED].requests_per_second:.2f}",
        )
        for result in ours
        for client, calls in result.clients.items()
    ]
    return table(header, rows)


def _comparison(ort_alone: OrtAlone, ours: Sequence[Result], peers: Sequence[Result]) -> str:
    """Return one row per figure: our best, the best of the others, and the share of ONNX Runtime alone."""

    def row(
        figure: str, rate: Callable[[Result], float], others: Sequence[Result] = (), limit: Graph | None = None
    ) -> tuple[str, ...]:
        best, other = max(ours, key=rate), max(others, key=rate, default=None)
        return (
            figure,
            f"{rate(best):,.0f} ({_short(best)})",
            f"{rate(other):,.0f} ({_short(other)})" if other else NONE,
            f"{rate(best) / rate(other):.2f}" if other else NONE,
            f"{ort_alone.share(limit, rate(best), best.precision):.0%}" if limit else NONE,
        )

    rows = [
        row("features of 1 image, requests/s", lambda result: result.features[1].requests_per_second, peers),
        row("features of 64 images, images/s", lambda result: result.features[64].images_per_second, peers, "features"),
        *(
            (
                f"features of 1 image at {measurement.rate:,.0f} requests/s, p99 ms",
                _best_p99(ours, k),
                _best_p99(peers, k),
                NONE,
                NONE,
            )
            for k, measurement in enumerate(ours[0].paced)
        ),
        row("generate 1 image, requests/s", lambda result: result.generate[1].requests_per_second),
        row("generate 64 images, images/s", lambda result: result.generate[64].images_per_second, (), "generate"),
    ]
    return table(("", "ours", "others", "ratio", "of ORT alone"), rows)


def _best_p99(results: Sequence[Result], k: int) -> str:
    """Return the lowest p99 at the k-th rate of the servers that keep it."""
    kept = [(result.paced[k].p99_ms, result) for result in results if result.paced[k].p99_ms is not None]
    if not kept:
        return "not kept" if results else NONE
    p99, result = min(kept, key=lambda pair: pair[0] or 0.0)
    return f"{p99:.1f} ({_short(result)})"


def _short(result: Result) -> str:
    return result.server.removeprefix(f"{OURS}, ")


def _latency(measurement: Measurement) -> str:
    return f"{measurement.p50_ms:.1f} / {measurement.p99_ms:.1f}"
