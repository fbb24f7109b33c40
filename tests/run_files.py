"""Run directories without training: copies of the stored run of version 0.1.0 with other contents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STORED = Path(__file__).parent / "fixtures" / "v0.1.0" / "run"
"""A finished run of two epochs with the factors `corner` and `shade`."""


def stored_json(name: str) -> dict[str, Any]:
    """Return the content of a JSON file of the stored run."""
    content: dict[str, Any] = json.loads((STORED / name).read_text())
    return content


def write_run_files(
    path: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
    finished: bool = True,
    metrics: Sequence[Mapping[str, float]] | None = None,
) -> Path:
    """Write the files of a run, and return its directory.

    Args:
        path: the run directory, which is made.
        settings: values of config.json that differ from those of the stored run, by dotted key.
        provenance: entries of provenance.json that differ.
        summary: entries of summary.json that differ.
        finished: whether the run has a summary.json.
        metrics: the entries of metrics.jsonl; None takes those of the stored run.
    """
    path.mkdir(parents=True)
    config = stored_json("config.json")
    for key, value in (settings or {}).items():
        *sections, field = key.split(".")
        section = config
        for name in sections:
            section = section[name]
        section[field] = value
    (path / "config.json").write_text(json.dumps(config))
    (path / "provenance.json").write_text(json.dumps({**stored_json("provenance.json"), **(provenance or {})}))
    if finished:
        (path / "summary.json").write_text(json.dumps({**stored_json("summary.json"), **(summary or {})}))
    lines = [json.dumps(row) + "\n" for row in metrics] if metrics is not None else None
    text = "".join(lines) if lines is not None else (STORED / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(text)
    return path
