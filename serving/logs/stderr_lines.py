"""Lines that C and C++ libraries write to stderr as log records: those of gRPC, ONNX Runtime, libtiff, a crash."""

from __future__ import annotations

import logging
import re

from partedvae.serving.logs.formatters import FIELDS

STDERR = "stderr"
"""The logger of lines in no known format."""
LEVELS = {
    "V": logging.DEBUG,
    "I": logging.INFO,
    "W": logging.WARNING,
    "E": logging.ERROR,
    "F": logging.CRITICAL,
}
"""Levels by the letters of Abseil and ONNX Runtime."""

_FORMATS = (
    # Abseil, which gRPC uses: E0000 00:00:1764135458.123456    4711 file.cc:12] text
    (
        "grpc.core",
        re.compile(r"(?P<level>[IWEF])\d{4} \d\d:\d\d:\d[\d.]*\s+\d+ (?P<source>[^\s\]]+:\d+)\] (?P<text>.*)"),
    ),
    # ONNX Runtime: 2025-11-26 05:37:38.123456789 [W:onnxruntime:Default, file.cc:12 function] text
    (
        "onnxruntime",
        re.compile(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* \[(?P<level>[VIWEF]):onnxruntime:[^,\]]*, (?P<source>\S+:\d+)[^\]]*\] "
            r"(?P<text>.*)"
        ),
    ),
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FATAL = ("Fatal Python error", "terminate called", "double free", "free(): ", "malloc(): ", "corrupted ")
"""Begins of messages with which a process ends."""
_NOISE = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"


def record_of(line: str) -> logging.LogRecord | None:
    """Return the record of a line without its line break; None for an empty one, or one that says nothing."""
    text = _COLOURS.sub("", line).rstrip()
    if not text or text == _NOISE:
        return None
    for logger, pattern in _FORMATS:
        if match := pattern.fullmatch(text):
            source = match["source"]
            return _record(logger, LEVELS[match["level"]], f"{source}: {match['text']}", {"source": source})
    return _record(STDERR, logging.CRITICAL if text.startswith(_FATAL) else logging.WARNING, text, {})


def _record(logger: str, level: int, text: str, fields: dict[str, str]) -> logging.LogRecord:
    record = logging.LogRecord(logger, level, "", 0, text, None, None)
    setattr(record, FIELDS, fields)
    return record
