"""What the server logs, to stderr: lines for people, or a JSON object a line. Never what is in images or tokens."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from partedvae.serving.config.config import LogFormat, ServeConfig

FIELDS = "fields"
"""`logger.info(text, extra={FIELDS: {...}})` adds members to the JSON object; in text the message must say it all."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time (UTC), level, logger, message, its fields, the exception."""

    def __init__(self, worker: int | None) -> None:
        """Take the number of the worker, if there are several."""
        super().__init__()
        self._always = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Return the object without line breaks."""
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
    """Log as the config says.

    Args:
        config: level and format.
        worker: number of this worker, if there are several; each line then tells it.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(config.log_format, worker))
    handler.addFilter(_is_news)
    # Libraries speak up only when something is wrong: debug means the server's own lines.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("partedvae").setLevel(config.log_level.upper())


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out what gRPC calls an error and is none: a caller that was gone when its answer was to be sent."""
    return record.name != "grpc._cython.cygrpc" or not record.getMessage().startswith(
        "ExecuteBatchError raised in core"
    )


def _formatter(kind: LogFormat, worker: int | None) -> logging.Formatter:
    if kind == "json":
        return JsonFormatter(worker)
    who = "" if worker is None else f" [worker {worker}]"
    return logging.Formatter(f"%(asctime)s %(levelname)s{who} %(name)s: %(message)s")
