"""Limits the rate of log records per kind, so that a flood of errors which a client causes does not fill a disk."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

OWN_LOGGERS = "partedvae"
"""Loggers whose records are of one kind only if their texts are equal, and which share no limit of all kinds."""
WARNINGS = "py.warnings"
"""The logger of Python's warnings, whose records have one template."""

_SUPPRESSED = "suppressed"
_VARIABLE = re.compile(r"""'[^']*'|"[^"]*"|0x[0-9a-fA-F]+|\d+""")
_MAX_KIND = 200
"""Characters by which kinds differ."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A number of records at once, and how many per second in the long run."""

    burst: float
    per_second: float


PER_KIND = Rate(burst=20, per_second=0.1)
"""Two dozen examples show what happens; one every 10 s shows that it goes on, in about 2 MB a day."""
OF_LIBRARIES = Rate(burst=500, per_second=2)
"""Of all kinds together: a client may cause any number of them. A dump of all threads of a crash fits in."""
MAX_KINDS = 256
"""Kinds that are remembered; of further ones, the oldest is forgotten."""


class _Bucket:
    """A token bucket, which counts what it has not admitted."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._left, self._since = rate.burst, now
        self.suppressed = 0

    def allows(self, now: float) -> bool:
        self._left = min(self._rate.burst, self._left + (now - self._since) * self._rate.per_second)
        self._since = now
        return self._left >= 1

    def take(self) -> None:
        self._left -= 1


class RateLimitFilter(logging.Filter):
    """Drops records of a kind of which too many came; the next one that passes has their number.

    Our own information and debug lines always pass: they are complete where an operator asks for them. Libraries also
    log what clients do wrong as information. Can be used from threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create a filter; `clock` returns seconds, another one in tests."""
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: OrderedDict[tuple[str, int, str], _Bucket] = OrderedDict()
        self._libraries = _Bucket(OF_LIBRARIES, clock())
        self._forgotten: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record."""
        if record.levelno < logging.WARNING and _is_own(record):
            return True
        kind = record.name, record.levelno, _kind_of(record)
        now = self._clock()
        with self._lock:
            bucket = self._kinds.get(kind)
            if bucket is None:
                bucket = self._kinds[kind] = _Bucket(PER_KIND, now)
                if len(self._kinds) > MAX_KINDS:
                    forgotten, oldest = self._kinds.popitem(last=False)
                    self._forgotten[forgotten[:2]] += oldest.suppressed
            self._kinds.move_to_end(kind)
            others = None if _is_own(record) else self._libraries
            if not bucket.allows(now) or (others is not None and not others.allows(now)):
                bucket.suppressed += 1
                return False
            bucket.take()
            if others is not None:
                others.take()
            setattr(record, _SUPPRESSED, bucket.suppressed)
            bucket.suppressed = 0
        return True

    def summaries(self) -> list[logging.LogRecord]:
        """Return a record for each logger with suppressed records that no later record has counted, and count anew."""
        with self._lock:
            counts, self._forgotten = self._forgotten, Counter()
            for (name, level, _), bucket in self._kinds.items():
                counts[name, level] += bucket.suppressed
                bucket.suppressed = 0
        return [
            logging.makeLogRecord(
                {
                    "name": name,
                    "levelno": level,
                    "levelname": logging.getLevelName(level),
                    "msg": "%s messages like earlier ones were suppressed",
                    "args": (f"{count:,}",),
                }
            )
            for (name, level), count in counts.items()
            if count
        ]


def suppressed_before(record: logging.LogRecord) -> int:
    """Return how many records of its kind were suppressed since the last one."""
    return int(getattr(record, _SUPPRESSED, 0))


def _is_own(record: logging.LogRecord) -> bool:
    return record.name == OWN_LOGGERS or record.name.startswith(f"{OWN_LOGGERS}.")


def _kind_of(record: logging.LogRecord) -> str:
    """Return what the records of a kind have in common: the text of our own, and of others without its values."""
    template = str(record.msg)
    if _is_own(record):
        try:
            return record.getMessage()[:_MAX_KIND]
        except Exception:  # The formatter writes a record with a mistake, too.
            return template[:_MAX_KIND]
    if record.name == WARNINGS and isinstance(record.args, tuple):
        template = " ".join(map(str, record.args))
    return _VARIABLE.sub("#", template[: 4 * _MAX_KIND])[:_MAX_KIND]
