"""Tests of `partedvae.common.suggest` with names of any length and number."""

from __future__ import annotations

import difflib

import pytest

from partedvae.common.suggest import MAX_KNOWN, MAX_NAME, did_you_mean, nearest, shortened


def test_nearest_name() -> None:
    assert nearest("mnits", ["dsprites", "mnist"]) == "mnist"
    assert nearest("Mnist", ["dsprites", "mnist"]) == "mnist"
    assert nearest("x", ["dsprites", "mnist"]) is None
    assert did_you_mean("mnits", ["mnist"]) == "; did you mean 'mnist'?"
    assert did_you_mean("x", ["mnist"]) == ""


def test_of_many_names_few_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is found among many with its initial, and how many are compared does not depend on how many there are."""
    compared: list[str] = []
    matches = difflib.get_close_matches

    def spy(word: str, known: list[str], n: int, cutoff: float) -> list[str]:
        compared.extend(known)
        return matches(word, known, n, cutoff)

    monkeypatch.setattr(difflib, "get_close_matches", spy)
    assert nearest("Mnits", [*(f"other-{number}" for number in range(1000)), "mnist"]) == "mnist"
    assert compared == ["mnist"]
    assert nearest("other", [f"other-{number}" for number in range(1000)]) == "other-9"
    assert len(compared) == 1 + MAX_KNOWN


def test_long_names_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(difflib, "get_close_matches")
    assert nearest("x" * (MAX_NAME + 1), ["x" * (MAX_NAME + 2)]) is None


def test_shortened() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
    assert shortened("x" * 10_000_000) == "x" * (MAX_NAME - 1) + "…"
