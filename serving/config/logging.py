"""Logging of the server to stderr: plain text, or one JSON object per line. Images and tokens are never logged."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any

from partedvae.serving.config.serve_config import LogFormat, ServeConfig

FIELDS = "fields"
"""`logger.info(text, extra={FIELDS: {...}})` adds members to the JSON object; plain text shows only the message."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time (UTC), level, logger, message, fields, exception."""

    def __init__(self, worker: int | None) -> None:
        """Create a formatter; `worker` is the number of this worker, None if there is only one."""
        super().__init__()
        self._always = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Return the object on one line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure(config: ServeConfig, worker: int | None = None) -> None:
    """Configure the root logger.

    Args:
        config: level and format.
        worker: number of this worker, shown in each line; None if there is only one.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(config.log_format, worker))
    handler.addFilter(_is_relevant)
    # The level applies to the server's own loggers; libraries log warnings and errors only.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("partedvae").setLevel(config.log_level.upper())


def _is_relevant(record: logging.LogRecord) -> bool:
    """Filter out errors that gRPC logs when a client disconnects before its reply is sent, and at shutdown."""
    if record.name != "grpc._cython.cygrpc":
        return True
    cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and not record.getMessage().startswith("ExecuteBatchError raised in core")


def _formatter(kind: LogFormat, worker: int | None) -> logging.Formatter:
    if kind == "json":
        return JsonFormatter(worker)
    label = "" if worker is None else f" [worker {worker}]"
    return logging.Formatter(f"%(asctime)s %(levelname)s{label} %(name)s: %(message)s")
