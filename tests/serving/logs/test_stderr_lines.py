"""Lines of libraries become records with their level, in pieces of any size."""

from __future__ import annotations

import pytest

from partedvae.serving.logs.stderr_lines import record_of
from partedvae.serving.logs.stderr_reader import MAX_LINE, LineReader


@pytest.mark.parametrize(
    ("line", "logger", "level", "message"),
    [
        ("I0000 00:00:1764135458.123456    4711 ssl.cc:12] failed", "grpc.core", "INFO", "ssl.cc:12: failed"),
        ("E0000 00:00:1764135458.12 4711 a/b.cc:1] x] y", "grpc.core", "ERROR", "a/b.cc:1: x] y"),
        ("F0000 00:00:1764135458.12 4711 b.cc:1] Check failed", "grpc.core", "CRITICAL", "b.cc:1: Check failed"),
        (
            "\x1b[0;93m2026-11-26 05:37:38.123456789 [W:onnxruntime:Default, graph.cc:12 Resolve] unused\x1b[m",
            "onnxruntime",
            "WARNING",
            "graph.cc:12: unused",
        ),
        ("TIFFReadDirectory: Warning, unknown tag\r", "stderr", "WARNING", "TIFFReadDirectory: Warning, unknown tag"),
        ("Fatal Python error: Segmentation fault", "stderr", "CRITICAL", "Fatal Python error: Segmentation fault"),
        ("terminate called after throwing", "stderr", "CRITICAL", "terminate called after throwing"),
        ("100 % of E0000 %s", "stderr", "WARNING", "100 % of E0000 %s"),
    ],
)
def test_records(line: str, logger: str, level: str, message: str) -> None:
    record = record_of(line)
    assert record is not None
    assert (record.name, record.levelname, record.getMessage()) == (logger, level, message)


@pytest.mark.parametrize(
    "line",
    ["", "  \t", "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"],
)
def test_lines_that_say_nothing(line: str) -> None:
    assert record_of(line) is None


def test_pieces() -> None:
    reader = LineReader()
    assert list(reader.feed(b"on")) == []
    assert list(reader.feed(b"e\ntwo\n\nthr\xff")) == ["one", "two"]
    assert list(reader.flush()) == [r"thr\xff"]
    assert list(reader.flush()) == []


def test_a_line_without_end_is_cut() -> None:
    reader = LineReader()
    for _ in range(100):
        assert list(reader.feed(b"x" * 65_536)) == []
    assert [len(line) for line in reader.feed(b"x\ny\n")] == [MAX_LINE, 1]
