"""Classes as callers write them."""

import re
from typing import Any

import pytest

from partedvae.class_choices import class_by_factor, class_combinations, class_label, class_rows
from partedvae.errors import InvalidRequestError
from tests.bundles import COLOURED, GREY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("heart", {"shape": "heart"}),
        ("colour=red", {"colour": "red"}),
        ("shape=square", {"shape": "square"}),
        (["heart", "colour=red"], {"shape": "heart", "colour": "red"}),
        ((), {}),
    ],
)
def test_a_class_is_found_by_name(text: Any, expected: dict[str, str]) -> None:
    """A class is named alone or with its factor; several of different factors are combined."""
    assert class_by_factor(text, COLOURED.manifest()) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "hart",
            "no class 'hart'; its classes are square, ellipse, heart, red, blue; did you mean 'heart'?",
        ),
        ("colour=rot", "factor 'colour' has no class 'rot'; its classes are red, blue"),
        ("size=heart", "the model has no factor 'size'; its factors are shape, colour"),
        ("color=red", "the model has no factor 'color'; its factors are shape, colour; did you mean 'colour'?"),
        (["heart", "red", "blue"], "'red' and 'blue' are both classes of 'colour', and an image has one class per"),
        (["heart", 7], "classes is ['heart', 7]; pass {factor: class}, a class as 'NAME' or 'factor=NAME', or a list"),
        (7, "classes is 7; pass {factor: class}"),
        (b"heart", "classes is b'heart'; pass {factor: class}"),
        ({"colour": 7}, "classes has 7, which is not a str: names of factors and classes are text"),
    ],
)
def test_an_unknown_class_is_rejected(text: Any, message: str) -> None:
    """The error lists the classes or the factors, or has what is accepted."""
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        class_by_factor(text, COLOURED.manifest())


def test_a_mapping_needs_no_manifest() -> None:
    """The server checks the names of a mapping."""
    assert class_by_factor({"shape": "star"}, None) == {"shape": "star"}


def test_a_class_of_two_factors_must_be_qualified() -> None:
    """The error for a class of two factors has both spellings."""
    manifest = COLOURED.manifest()
    manifest.factors[1].class_names[0] = "heart"

    with pytest.raises(InvalidRequestError, match="write 'shape=heart' or 'colour=heart'"):
        class_by_factor("heart", manifest)


def test_a_class_whose_name_has_an_equals_sign() -> None:
    """What stands before the sign is a factor only if the whole is not a class."""
    manifest = COLOURED.manifest()
    manifest.factors[1].class_names[0] = "r=1"

    assert class_by_factor("r=1", manifest) == {"colour": "r=1"}
    assert class_by_factor("colour=r=1", manifest) == {"colour": "r=1"}


def test_a_factor_whose_name_has_an_equals_sign() -> None:
    manifest = COLOURED.manifest()
    manifest.factors[1].name = "k=v"

    assert class_by_factor("k=v=red", manifest) == {"k=v": "red"}
    with pytest.raises(InvalidRequestError, match=r"factor 'k=v' has no class 'read'; .*did you mean 'red'"):
        class_by_factor("k=v=read", manifest)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], []),
        (["heart"], [{"shape": "heart"}]),
        (["heart", "square"], [{"shape": "heart"}, {"shape": "square"}]),
        (["shape=heart", "colour=red"], [{"shape": "heart", "colour": "red"}]),
        (
            ["red", "heart", "blue", "square"],
            [
                {"colour": "red", "shape": "heart"},
                {"colour": "red", "shape": "square"},
                {"colour": "blue", "shape": "heart"},
                {"colour": "blue", "shape": "square"},
            ],
        ),
    ],
)
def test_classes_of_different_factors_are_combined(texts: list[str], expected: list[dict[str, str]]) -> None:
    """Those of one factor alternate."""
    assert class_combinations(texts, COLOURED.manifest()) == expected


def test_labels_name_the_factors_of_a_model_with_several() -> None:
    assert class_label({"digit": "7"}, GREY.manifest()) == "7"
    assert class_label({"shape": "heart", "colour": "red"}, COLOURED.manifest()) == "shape=heart, colour=red"


@pytest.mark.parametrize("specs", ["heart", {"shape": "heart"}, 7])
def test_rows_are_a_list(specs: Any) -> None:
    """A single class is not read letter by letter."""
    message = f"classes is {specs!r}; pass a list with one entry per row, such as [{specs!r}]"
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        class_rows(specs)
