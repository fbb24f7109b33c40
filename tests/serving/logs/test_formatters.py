"""Log records are one JSON object, or one line with an indented traceback, whatever they contain."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from partedvae.serving.logs.formatters import FIELDS, JsonFormatter, TextFormatter

HOSTILE = "a\n2026-11-26 00:00:00,000 ERROR forged: \x1b[2J\u202e\u2028\udcff"
ESCAPED = r"a\n2026-11-26 00:00:00,000 ERROR forged: \x1b[2J\u202e\u2028\udcff"


def record(message: str = "%s", *args: object, **more: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "n", "levelname": "ERROR", "msg": message, "args": args, **more})


def failure(message: str) -> Any:
    try:
        raise ValueError(message)
    except ValueError:
        return sys.exc_info()


def entry(found: logging.LogRecord, worker: int | None = None) -> dict[str, Any]:
    line = JsonFormatter(worker).format(found)
    assert len(line.splitlines()) == 1
    line.encode()
    parsed: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return parsed


def test_messages_are_one_line() -> None:
    assert entry(record("%s", HOSTILE), 3)["message"] == ESCAPED
    assert entry(record("%s", HOSTILE), 3)["worker"] == 3
    text = TextFormatter(3).format(record("%s", HOSTILE))
    assert text.endswith(f" ERROR [worker 3] n: {ESCAPED}")
    assert len(text.splitlines()) == 1


def test_fields_are_clean() -> None:
    fields = {"id": HOSTILE, "rate": float("nan"), "list": [HOSTILE, 1, None], "raw": b"s3cret", HOSTILE: True}
    found = entry(record("x", **{FIELDS: fields}))
    assert found["id"] == ESCAPED
    assert found["rate"] == "nan"
    assert found["list"] == [ESCAPED, 1, None]
    assert found["raw"] == "[6 bytes]"
    assert found[ESCAPED] is True


def test_exceptions_cannot_be_taken_for_records() -> None:
    """The lines of an exception are indented; in JSON they are one member."""
    found = record("failed", exc_info=failure(HOSTILE))
    first, *others = TextFormatter(None).format(found).split("\n")
    assert first.endswith(" ERROR n: failed")
    assert others[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert r"\x1b[2J\u202e\u2028\udcff" in others[-1]
    lines = entry(found)["exception"].split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert all(line.isprintable() for line in lines)


def test_bytes_of_clients_are_not_shown() -> None:
    """As gRPC logs metadata that are not UTF-8, of which the token is one."""
    assert entry(record("Invalid encoding on %s", b"Bearer s3cret\xff"))["message"] == "Invalid encoding on [14 bytes]"
    assert entry(record("sent %s", "Bearer s3cret"))["message"] == "sent Bearer [hidden]"
    found = entry(record("failed", exc_info=failure("('authorization', 's3cret')")))
    assert "s3cret" not in json.dumps(found)


def test_a_record_with_a_mistake_is_written() -> None:
    assert entry(record("%d images", "many"))["message"] == "'%d images' with ('many',)"
    assert entry(record("100 %"))["message"] == "100 %"
