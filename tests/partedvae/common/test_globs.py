"""Patterns of file names."""

from __future__ import annotations

import pytest

from partedvae.common.globs import compile_pattern, depth_of, expand_braces, is_pattern, split_pattern


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*.png", "a.png", True),
        ("*.png", "a/b.png", False),
        ("**/*.png", "b.png", True),
        ("**/*.png", "a/c/b.png", True),
        ("a/**/b.png", "a/b.png", True),
        ("a/**", "a/b/c", True),
        ("?.png", "/.png", False),
        ("[a-c].png", "b.png", True),
        ("[!a-c].png", "b.png", False),
        ("[^a].png", "b.png", True),
        ("a[!b]c", "a/c", False),
        ("[]x].png", "].png", True),
        ("[.png", "[.png", True),
        ("a+(b).png", "a+(b).png", True),
        (r"[\d].png", "1.png", False),
        ("*.png", "a\nb.png", True),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    assert (compile_pattern(pattern).fullmatch(name) is not None) is matches


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("{1..3}", ["1", "2", "3"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("{only}", ["{only}"]),
        ("{9..1}", ["{9..1}"]),
        ("plain", ["plain"]),
    ],
)
def test_braces(text: str, names: list[str]) -> None:
    assert expand_braces(text) == names
    assert is_pattern(text) is (names != [text])


@pytest.mark.parametrize(
    ("pattern", "folder", "rest", "depth"),
    [
        ("photos/**/*.png", "photos", "**/*.png", None),
        ("/*.png", "/", "*.png", 0),
        ("*/*.png", "", "*/*.png", 1),
        ("s3://bucket/x/*.png", "s3://bucket/x", "*.png", 0),
    ],
)
def test_the_folder_of_a_pattern(pattern: str, folder: str, rest: str, depth: int | None) -> None:
    assert split_pattern(pattern) == (folder, rest)
    assert depth_of(rest) == depth
