"""Texts of log records are one line, and contain no credentials."""

from __future__ import annotations

import pytest

from partedvae.serving.logs.text import clean, clean_lines, escape, hide_credentials


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\n2026-11-26 ERROR forged", r"a\n2026-11-26 ERROR forged"),
        ("a\r\tb\0", r"a\r\tb\x00"),
        ("\x1b[31mred\x9b0m\x7f", r"\x1b[31mred\x9b0m\x7f"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("\u202egpj.exe\u2066\u200f\u061c", r"\u202egpj.exe\u2066\u200f\u061c"),
        ("\udcff\U000e0041\ufeff", r"\udcff\U000e0041\ufeff"),
        ("naïve 数字 😀", "naïve 数字 😀"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    assert len(escape(text).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Bearer s3cret",
        "got b'Bearer s3cret\\xff'",
        "authorization: Bearer s3cret",
        "Authorization: s3cret",
        "('authorization', 's3cret')",
        "{'authorization': b's3cret\\xff more-s3cret'}",
        "key: authorization: s3cret s3cret",
        "bearer\ts3cret, then",
        "proxy-authorization=Basic s3cret",
    ],
)
def test_credentials_are_hidden(text: str) -> None:
    assert "s3cret" not in hide_credentials(text)
    assert "[hidden]" in hide_credentials(text)


def test_the_name_of_the_header_is_kept() -> None:
    assert hide_credentials('metadata, "authorization: Bearer TOKEN"') == 'metadata, "authorization: [hidden]"'


def test_other_text_is_kept() -> None:
    text = "no token: send a token of the server's token file"
    assert hide_credentials(text) == text


def test_long_texts_are_cut() -> None:
    assert clean("x" * 1_000_010, 10) == "xxxxxxxxxx… [1,000,000 more characters]"
    lines = clean_lines("\n".join(map(str, range(1000))), 20, 4)
    assert lines == ["0", "1", "… [996 more lines]", "998", "999"]
