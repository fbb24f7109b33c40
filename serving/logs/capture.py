"""Replaces file descriptor 2 of a server by a pipe to `partedvae.serving.logs.stderr_reader`.

Libraries in C and C++ write there past Python's logging. Child processes inherit the pipe as their stderr. Records of
Python's logging are formatted in their own process, and written to the original stderr, which `log_stream` returns.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from partedvae.serving.logs.formatters import LogFormat

logger = logging.getLogger(__name__)

STDERR = 2
VARIABLE = "_PARTEDVAE_LOG_DESCRIPTOR"
"""Environment variable with the descriptor of the original stderr, for worker processes that inherit it."""
EXIT_SECONDS = 5.0
"""Time for the reader to write the last lines; processes that outlive the server may keep it running."""


@contextmanager
def captured_stderr(kind: LogFormat) -> Iterator[bool]:
    """Turn what is written to file descriptor 2 within the block into log records.

    Nothing is captured in a process that inherits the pipe of its parent, or where sys.stderr is not this descriptor,
    as in programs that replace it.

    Args:
        kind: format of the records.

    Yields:
        Whether sys.stderr is file descriptor 2.
    """
    if not _is_stderr(sys.stderr) or VARIABLE in os.environ:
        yield _is_stderr(sys.stderr)
        return
    sys.stderr.flush()
    # Left open: exceptions that nobody handles are logged after the block.
    original = os.dup(STDERR)
    try:
        reader = _replace_stderr(kind, original)
    except OSError as error:
        logger.warning("lines of libraries are logged as they are: %s", error)
        yield True
        return
    os.environ[VARIABLE] = _identity(original)
    # Libraries may write until the very end of the process, when nothing reads their lines any more.
    afterwards = os.open(os.devnull, os.O_WRONLY)
    try:
        yield True
    except BaseException:
        os.dup2(original, afterwards)  # The command reports the error.
        raise
    finally:
        del os.environ[VARIABLE]
        sys.stderr.flush()
        os.dup2(afterwards, STDERR)
        os.close(afterwards)
        with suppress(subprocess.TimeoutExpired):
            reader.wait(EXIT_SECONDS)


def log_stream() -> TextIO:
    """Return the stream of log records: the original stderr where it was replaced, in this process or a parent."""
    descriptors = inherited_descriptors()
    if not descriptors:
        return sys.stderr
    return record_stream(descriptors[0])


def record_stream(descriptor: int) -> TextIO:
    """Return a stream that writes each record at once, so that those of several processes do not mix.

    It keeps nothing that could not be written: without a reader, a buffer would grow.
    """
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def inherited_descriptors() -> list[int]:
    """Return the descriptors that worker processes must inherit to write records; none where nothing is captured."""
    identity = os.environ.get(VARIABLE, "")
    number = identity.partition(":")[0]
    # The process may have been started without the descriptor, which then is closed or another file.
    if number.isdecimal() and _identity(int(number)) == identity:
        return [int(number)]
    return []


def _replace_stderr(kind: LogFormat, original: int) -> subprocess.Popen[bytes]:
    """Start the reader and make file descriptor 2 its input."""
    source, target = os.pipe()
    try:
        # As for workers: the same module search path, without the current directory (-P).
        paths = os.pathsep.join(path for path in sys.path if path)
        reader = subprocess.Popen(
            [sys.executable, "-P", "-m", "partedvae.serving.logs.stderr_reader", kind],
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=original,
            env=os.environ | {"PYTHONPATH": paths},
            process_group=0,  # Ctrl-C in a terminal must not end it before the server.
        )
        os.dup2(target, STDERR)
    finally:
        os.close(source)
        os.close(target)
    return reader


def _is_stderr(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == STDERR
    except (OSError, ValueError):  # A stream in memory, or a closed one.
        return False


def _identity(descriptor: int) -> str:
    """Return a descriptor with the file that it stands for; empty where it is closed."""
    try:
        file = os.fstat(descriptor)
    except OSError:
        return ""
    return f"{descriptor}:{file.st_dev}:{file.st_ino}"
