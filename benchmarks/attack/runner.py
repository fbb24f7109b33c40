"""Runs attacks against a server beside a good client, and reports what each of them did."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.attack.attack import Attack, AttackResult, Options, run_attack
from benchmarks.attack.bounds import Bounds, Service, log_problems, outcome_problems
from benchmarks.attack.good_client import SPAWN, GoodClient
from benchmarks.attack.lag import largest, scrape
from benchmarks.attack.registry import ATTACKS
from benchmarks.attack.server import GRACE_SECONDS, ONLY_FRONT, AttackedServer, Checkout, running_server
from benchmarks.attack.target import Target
from benchmarks.attack.usage import Sampler, Usage, limit_of_files, usage_of
from benchmarks.serving.load import BenchmarkError

QUIET_SECONDS = 1.0
"""How long the good client is measured before an attack."""
RECOVERY_SECONDS = 15.0
"""Time for a server to recover from an attack."""
PREPARE_SECONDS = 60.0
"""Time for an attacker to build what it sends."""
STOP_SECONDS = GRACE_SECONDS + 15.0
"""Time for a server to end after SIGTERM: its grace period, and ten seconds until workers are killed."""
POLL_SECONDS = 0.1
GOOD_CALLS = 10
"""Successful calls in a row of the good client that show that a server has recovered."""


@dataclass(frozen=True, kw_only=True)
class AttackReport:
    """What an attack did to a server."""

    attack: Attack
    outcomes: Counter[str]
    """Answers to the attacker by status, or by how else its requests ended."""
    idle: Usage
    """Of the server before the first attack."""
    peak: Usage
    bounds: Bounds
    before: Service
    during: Service
    lag_seconds: float | None
    """Upper bound of the lag of the event loop; None if the server does not report it."""
    recovery_seconds: float | None
    """None if the server did not recover."""
    problems: tuple[str, ...]
    """Broken bounds; empty if the server held."""


class Session:
    """A running server with its sampler and its good client."""

    def __init__(self, server: AttackedServer, sampler: Sampler, client: GoodClient) -> None:
        """Measure the idle server."""
        self.server = server
        self._sampler = sampler
        self._client = client
        time.sleep(QUIET_SECONDS)
        self.idle = usage_of(server.pid)
        self.bounds = Bounds.of(server, self.idle)
        self.is_usable = True
        """Whether the server can stand a further attack: it recovered from the last one."""

    def run(self, attack: Attack, seconds: float, p99_ms: float) -> AttackReport:
        """Run an attack and report.

        Args:
            attack: the attack, for servers with these options.
            seconds: its duration.
            p99_ms: largest p99 of the good client that is accepted.
        """
        log_size = self.server.log_file.stat().st_size
        lag = scrape(self.server.target.metrics_address)
        quiet = time.monotonic()
        time.sleep(QUIET_SECONDS)
        self._sampler.reset()
        problems = []
        begin = time.monotonic()
        try:
            result = _in_process(attack, self.server.target, seconds)
        except BenchmarkError as error:
            problems.append(str(error))
            result = AttackResult(outcomes=Counter(), begin=begin, end=time.monotonic())
        recovery = None
        lag_seconds = largest(lag, scrape(self.server.target.metrics_address))
        if attack.must_stop:
            before_stop = time.monotonic()
            if self.server.stop(STOP_SECONDS):
                recovery = time.monotonic() - before_stop
            else:
                problems.append(f"did not end well within {STOP_SECONDS:g} s after SIGTERM")
        else:
            recovery, unrecovered = self._recover(result.end)
            problems += unrecovered
        # Calls of the good client from before the signal are part of the attack, those after it are not.
        during = Service.of(self._client.wait_for(result.begin, result.end))
        peak = self._sampler.peak
        self.is_usable = not problems and not attack.must_stop
        if peak.memory_bytes > self.bounds.peak_bytes:
            problems.append("used more memory than its budget")
        if peak.threads > self.bounds.peak_threads:
            problems.append(f"used {peak.threads} threads, above {self.bounds.peak_threads}")
        problems += during.problems(p99_ms)
        problems += outcome_problems(result.outcomes)
        problems += log_problems(self.server.log_file, log_size, self.server)
        return AttackReport(
            attack=attack,
            outcomes=result.outcomes,
            idle=self.idle,
            peak=peak,
            bounds=self.bounds,
            before=Service.of(self._client.calls(quiet, quiet + QUIET_SECONDS)),
            during=during,
            lag_seconds=lag_seconds,
            recovery_seconds=recovery,
            problems=tuple(problems),
        )

    def _recover(self, begin: float) -> tuple[float | None, list[str]]:
        """Wait until the server has recovered; return how long it took, or what is not as before."""
        while True:
            if self._sampler.killed:
                return None, ["was killed at the ceiling of memory"]
            if not self.server.is_running():
                return None, [f"ended with exit code {self.server.process.returncode}"]
            problems = self.bounds.unrecovered(usage_of(self.server.pid))
            calls = [call for call in self._client.calls(begin) if call.seconds is not None]
            last = sorted(calls, key=lambda call: call.start)[-GOOD_CALLS:]
            if len(last) < GOOD_CALLS or any(call.error for call in last):
                problems.append("the good client's calls fail")
            if not problems:
                return time.monotonic() - begin, []
            if time.monotonic() > begin + RECOVERY_SECONDS:
                return None, [f"{RECOVERY_SECONDS:g} s after the attack: {problem}" for problem in problems]
            time.sleep(POLL_SECONDS)


@contextmanager
def session(
    kind: Options, checkout: Checkout, models: Path, folder: Path, ceiling_mb: int, front: str = ONLY_FRONT
) -> Iterator[Session]:
    """Run a server, its sampler and its good client within the block.

    Args:
        kind: options of the server.
        checkout: code of the server.
        models: folder of models, from `copy_model`.
        folder: where logs are written.
        ceiling_mb: memory in MiB at which the server is killed.
        front: "grpcio" or "native".

    Raises:
        BenchmarkError: the server did not start, or does not answer.
    """
    with (
        running_server(kind, checkout, models, folder, front) as server,
        Sampler(server.pid, ceiling_mb << 20) as sampler,
        GoodClient(server.target) as client,
    ):
        yield Session(server, sampler, client)


def _in_process(attack: Attack, target: Target, seconds: float) -> AttackResult:
    """Run an attack in a process of its own, which cannot delay the measurement, and end it."""
    receiver, sender = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_attack, args=(attack.name, target, seconds, sender), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(PREPARE_SECONDS + seconds):
            raise BenchmarkError(f"{attack.name} did not end within {PREPARE_SECONDS + seconds:g} s")
        result = receiver.recv()
    except EOFError as error:
        raise BenchmarkError(f"{attack.name} failed; see its traceback above") from error
    finally:
        process.kill()
        process.join()
    assert isinstance(result, AttackResult)
    return result


def _attack(name: str, target: Target, seconds: float, sender: Connection) -> None:
    limit_of_files()
    sender.send(asyncio.run(run_attack(ATTACKS[name], target, seconds)))
