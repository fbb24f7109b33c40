"""What a worker process reports to its supervisor: a line of JSON, which always has the whole state."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Self

from partedvae.serving.metrics.aggregation import Family

MAX_BYTES = 8 * 1024 * 1024
"""Maximum length of a line: the metrics of some hundred models."""


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """The state of a worker process."""

    accepts_calls: bool = False
    ready: bool = False
    """Whether its services are SERVING."""
    beats: int = 0
    """Increases as long as its event loop runs."""
    error: str = ""
    """Why it cannot start."""
    metrics: list[Family] | None = None
    """All its metrics; None if this report leaves them out."""

    def to_line(self) -> bytes:
        """Return the line; it has no metrics if it would be longer than `MAX_BYTES` with them."""
        line = json.dumps(vars(self)).encode() + b"\n"
        if len(line) > MAX_BYTES and self.metrics is not None:
            return replace(self, metrics=None).to_line()
        return line

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Return the report of a line.

        Raises:
            ValueError: the line is not a report.
        """
        try:
            values = json.loads(line)
            metrics = values.pop("metrics")
            report = cls(**values, metrics=None if metrics is None else [Family.checked(*each) for each in metrics])
            if [type(value) for value in values.values()] != [bool, bool, int, str]:
                raise TypeError
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{line[:60]!r} is not a report of a worker") from error
        return report
