"""Logging of the server to stderr: plain text, or one JSON object per line. Images and tokens are never logged.

Whatever the process writes to stderr is a record: also what libraries write past Python's logging, warnings, and
exceptions that nobody handles. A traceback of a crash is logged line by line.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.logs.capture import captured_stderr, inherited_descriptors, log_stream
from partedvae.serving.logs.formatters import FIELDS, formatter
from partedvae.serving.logs.handler import LimitedHandler
from partedvae.serving.logs.rate_limit import WARNINGS

__all__ = ["FIELDS", "configure", "inherited_descriptors", "server_logging"]

logger = logging.getLogger("partedvae")


def configure(config: ServeConfig, worker: int | None = None) -> None:
    """Configure the root logger.

    Args:
        config: level and format.
        worker: number of this worker, shown in each line; None if there is only one.
    """
    handler = LimitedHandler(log_stream(), formatter(config.log_format, worker))
    handler.addFilter(_is_relevant)
    # The level applies to the server's own loggers; libraries log warnings and errors only.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("partedvae").setLevel(config.log_level.upper())


@contextmanager
def server_logging(config: ServeConfig, worker: int | None = None) -> Iterator[None]:
    """Log everything that this process and its libraries write to stderr within the block.

    The arguments are those of `configure`.
    """
    with captured_stderr(config.log_format) as is_own:
        configure(config, worker)
        if is_own:
            _log_unhandled()
        try:
            yield
        finally:
            logging.shutdown()  # Writes how many records were suppressed.


def _log_unhandled() -> None:
    """Log warnings, exceptions that nobody handles, and the stacks of a crash, instead of printing them."""
    warnings.showwarning = _log_warning
    # Python prints a warning once per text and remembers the text: for texts from clients this has no limit. The log's
    # own limit takes its place. Appended, so that categories that are ignored or configured stay so.
    warnings.simplefilter("always", append=True)
    faulthandler.enable()
    sys.excepthook = _log_exception
    threading.excepthook = _log_thread_exception
    sys.unraisablehook = _log_unraisable


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # The logger of `logging.captureWarnings`, whose messages end with the source in a line of its own.
    logging.getLogger(WARNINGS).warning("%s:%d: %s: %s", filename, lineno, category.__name__, message)


def _log_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logger.critical("the process ends with an unexpected error", exc_info=(kind, error, traceback))


def _log_thread_exception(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is None or isinstance(failure.exc_value, SystemExit):
        return
    name = failure.thread.name if failure.thread is not None else "unknown"
    logger.error("a thread ended with an unexpected error: %s", name, exc_info=failure.exc_value)


def _log_unraisable(failure: sys.UnraisableHookArgs) -> None:
    reason = failure.err_msg or "an exception was ignored"
    logger.error("%s: %r", reason, failure.object, exc_info=failure.exc_value)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Filter out errors that gRPC logs when a client disconnects before its reply is sent, and at shutdown."""
    if record.name != "grpc._cython.cygrpc":
        return True
    cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and not record.getMessage().startswith("ExecuteBatchError raised in core")
