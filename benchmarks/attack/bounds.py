"""The bounds that no attack may break, and the check of a report against them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.attack.attack import NEVER_ANSWERED
from benchmarks.attack.good_client import CLASSIFY, PROBE, Call
from benchmarks.attack.server import AttackedServer
from benchmarks.attack.usage import Usage

RETAINED_MB = 96
"""MiB of each worker beyond its budget and what it used when idle: what allocators keep, and gRPC's buffers."""
RECOVERED_SHARE = 0.25
"""Share of the budget that may remain soon after an attack: allocators reuse memory, and give it back late."""
THREADS = 64
"""Threads of each process beyond those of the idle one."""
FILES = 32
"""Open files of each process that may remain after an attack, beyond those of the idle one."""
LOG_MB = 10
"""What an attack may write into the log, in MiB."""
FORBIDDEN_OUTCOMES = ("INTERNAL", "UNKNOWN", NEVER_ANSWERED)
"""Statuses of faults of the server, and requests that it forgot."""
MB = 1 << 20
TRACEBACK = "Traceback (most recent call last)"
GRPC_LOGGERS = ('"logger": "stderr"', '"logger": "grpc._cython', " stderr: ", " grpc._cython.cygrpc: ")
"""Parts of lines of the log that gRPC writes: it prints tracebacks of calls that end while it serves them."""
MAX_LINE = 200
"""Characters of a line of the log that a problem repeats."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds of a server, derived from its options and from its usage before the first attack."""

    peak_bytes: int
    """Memory during an attack."""
    recovered_bytes: int
    """Memory soon after it."""
    peak_threads: int
    recovered_files: int

    @classmethod
    def of(cls, server: AttackedServer, idle: Usage) -> Bounds:
        """Return the bounds of a server: idle usage, plus a budget and an allowance per worker."""
        workers, budget = server.options.workers, server.options.memory_mb
        return cls(
            peak_bytes=idle.memory_bytes + workers * (budget + RETAINED_MB) * MB,
            recovered_bytes=idle.memory_bytes + int(workers * (RECOVERED_SHARE * budget + RETAINED_MB) * MB),
            peak_threads=idle.threads + workers * THREADS,
            recovered_files=idle.files + workers * FILES,
        )

    def unrecovered(self, usage: Usage) -> list[str]:
        """Return in which respects a server has not recovered."""
        problems = []
        if usage.memory_bytes > self.recovered_bytes:
            problems.append(f"keeps {usage.memory_bytes / MB:,.0f} MiB, above {self.recovered_bytes / MB:,.0f}")
        if usage.threads > self.peak_threads:
            problems.append(f"keeps {usage.threads} threads, above {self.peak_threads}")
        if usage.files > self.recovered_files:
            problems.append(f"keeps {usage.files} open files, above {self.recovered_files}")
        return problems


@dataclass(frozen=True, kw_only=True)
class Service:
    """What the good client got within a time."""

    calls: int
    failures: int
    p50_ms: float
    p99_ms: float
    """Of the classifications; failed calls count with the time until they failed."""
    slowest_probe_ms: float
    reasons: tuple[str, ...]
    """Some of the failures."""

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Service:
        """Summarise calls; those without an answer count as failures."""
        errors = [f"{call.kind}: {call.error or 'no answer'}" for call in calls if call.error or call.seconds is None]

        def milliseconds(kind: str) -> list[float]:
            return [1000 * call.seconds for call in calls if call.kind == kind and call.seconds is not None] or [0.0]

        p50, p99 = np.percentile(milliseconds(CLASSIFY), [50, 99])
        return cls(
            calls=len(calls),
            failures=len(errors),
            p50_ms=round(float(p50), 1),
            p99_ms=round(float(p99), 1),
            slowest_probe_ms=round(max(milliseconds(PROBE)), 1),
            reasons=tuple(dict.fromkeys(errors))[:3],
        )

    def problems(self, p99_ms: float) -> list[str]:
        """Return what the good client noticed of an attack.

        Args:
            p99_ms: largest p99 of the classifications that is accepted.
        """
        problems = []
        if self.failures:
            reasons = "; ".join(self.reasons)
            problems.append(f"{self.failures} of {self.calls} calls of the good client failed: {reasons}")
        if self.p99_ms > p99_ms:
            problems.append(f"the good client's p99 was {self.p99_ms:,.0f} ms, above {p99_ms:,.0f}")
        if self.calls < 2:
            problems.append("the good client made no calls")
        return problems


def outcome_problems(outcomes: Counter[str]) -> list[str]:
    """Return what is wrong with the answers to an attack."""
    problems = [f"{outcomes[each]} requests were {each}" for each in FORBIDDEN_OUTCOMES if outcomes[each]]
    return problems or ([] if outcomes else ["the attack sent nothing"])


def log_problems(log_file: Path, start: int, server: AttackedServer) -> list[str]:
    """Return what is wrong with the log of an attack.

    Args:
        log_file: the server's log.
        start: size of the log before the attack in bytes.
        server: its options say whether lines are JSON, and its token must not be logged.
    """
    with log_file.open("rb") as file:
        file.seek(start)
        data = file.read(LOG_MB * MB + 1)
    text = data.decode(errors="replace")
    # The last line may be incomplete.
    lines = text.split("\n")[:-1]
    problems = []
    if len(data) > LOG_MB * MB:
        problems.append(f"the log grew by more than {LOG_MB} MiB")
    own = "\n".join(line for line in lines if not _is_of_grpc(line))
    if TRACEBACK in own:
        context, exception = _first_traceback(own)
        problems.append(f"tracebacks in the log, first {exception[:MAX_LINE]!r} after {context[-MAX_LINE:]!r}")
    if server.options.token and server.options.token in text:
        problems.append("the token is in the log")
    if server.options.log_is_json and (plain := [line for line in lines if not _is_json(line)]):
        problems.append(f"{len(plain)} lines of the log are no JSON, first {plain[0][:MAX_LINE]!r}")
    return problems


def _is_of_grpc(line: str) -> bool:
    """Return whether gRPC has written a line, or asyncio about a callback of gRPC, as when both shut down."""
    return any(name in line for name in GRPC_LOGGERS) or ('"logger": "asyncio"' in line and "cygrpc" in line)


def _first_traceback(text: str) -> tuple[str, str]:
    """Return what precedes the first traceback, and the line after its frames, in a log of lines or of JSON objects."""
    before, _, after = text.partition(TRACEBACK)
    lines = after.replace("\\n", "\n").split("\n")[1:]
    return before.rstrip("\n").rpartition("\n")[2], next((line for line in lines if not line.startswith(" ")), "")


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
