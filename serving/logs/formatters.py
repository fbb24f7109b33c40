"""Formats of log records: plain text, or one JSON object per line."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from partedvae.serving.logs.rate_limit import suppressed_before
from partedvae.serving.logs.text import clean, clean_lines, escape

LogFormat = Literal["text", "json"]

FIELDS = "fields"
"""`logger.info(text, extra={FIELDS: {...}})` adds members to the JSON object; plain text shows only the message."""

MAX_TEXT = 8_192
"""Maximum characters of a message, a field and a line of a traceback."""
MAX_LINES = 200
"""Maximum lines of a traceback."""
INDENT = "    "
"""Before each line of a traceback in plain text, where records start in the first column."""


def formatter(kind: LogFormat, worker: int | None) -> logging.Formatter:
    """Return the formatter of a format; `worker` is the number of this worker, None if there is only one."""
    return JsonFormatter(worker) if kind == "json" else TextFormatter(worker)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time (UTC), level, logger, message, fields, exception."""

    def __init__(self, worker: int | None) -> None:
        """Create a formatter; `worker` is the number of this worker, None if there is only one."""
        super().__init__()
        self._always = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Return the object on one line. Line breaks of an exception are its only control characters."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": escape(record.name),
            "message": _message_of(record),
            **self._always,
            **_clean(getattr(record, FIELDS, {})),
        }
        if suppressed := suppressed_before(record):
            entry["suppressed"] = suppressed
        if lines := _exception_of(self, record):
            entry["exception"] = "\n".join(lines)
        return json.dumps(entry, ensure_ascii=False, allow_nan=False)


class TextFormatter(logging.Formatter):
    """Formats a record as one line, followed by the indented lines of its exception."""

    def __init__(self, worker: int | None) -> None:
        """Create a formatter; `worker` is the number of this worker, None if there is only one."""
        super().__init__()
        self._label = "" if worker is None else f" [worker {worker}]"

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines."""
        head = f"{self.formatTime(record)} {record.levelname}{self._label} {escape(record.name)}: {_message_of(record)}"
        if suppressed := suppressed_before(record):
            head += f" ({suppressed:,} similar messages were suppressed)"
        return "\n".join([head, *(f"{INDENT}{line}" for line in _exception_of(self, record))])


def _message_of(record: logging.LogRecord) -> str:
    # Bytes are what a client sent, for instance a token that is not UTF-8, which gRPC logs.
    if isinstance(record.args, tuple) and any(isinstance(value, bytes | bytearray) for value in record.args):
        arguments: Any = tuple(map(_without_bytes, record.args))
    else:
        arguments = record.args
    try:
        text = str(record.msg) % arguments if arguments else str(record.msg)
    except Exception:  # A record with a mistake is better than none.
        text = f"{record.msg!r} with {arguments!r}"
    return clean(text, MAX_TEXT)


def _without_bytes(value: object) -> object:
    return f"[{len(value):,} bytes]" if isinstance(value, bytes | bytearray) else value


def _exception_of(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """Return the lines of a record's traceback and stack."""
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return clean_lines("\n".join(parts), MAX_TEXT, MAX_LINES)


def _clean(value: Any) -> Any:
    """Return a value of JSON whose texts are clean."""
    if isinstance(value, Mapping):
        return {clean(str(key), MAX_TEXT): _clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return clean(str(_without_bytes(value)), MAX_TEXT)
