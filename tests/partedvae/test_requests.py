import re
from typing import Any

import pytest

from partedvae.errors import InvalidRequestError
from partedvae.requests import class_by_factor, feature_outputs
from partedvae.v1.service_pb2 import FEATURE_OUTPUT_PROBS, FEATURE_OUTPUT_Z_LOGVAR
from tests.bundles import COLOURED


def test_outputs_have_the_names_of_the_protocol() -> None:
    """Names become the protocol's values."""
    assert feature_outputs(["probs", "z_logvar"]) == [FEATURE_OUTPUT_PROBS, FEATURE_OUTPUT_Z_LOGVAR]


@pytest.mark.parametrize(
    ("include", "message"),
    [
        (["u_men"], "include has 'u_men', which is not a feature output; did you mean 'u_mean'?"),
        (["xyzzy"], "include has 'xyzzy', which is not a feature output; choose from probs, u_mean, u_logvar,"),
        ([], "include is empty; choose from probs, u_mean"),
    ],
)
def test_unknown_outputs_are_rejected(include: Any, message: str) -> None:
    """The error suggests the nearest name, or lists all."""
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        feature_outputs(include)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("heart", {"shape": "heart"}), ("colour=red", {"colour": "red"}), ("shape=square", {"shape": "square"})],
)
def test_a_class_is_found_by_name(text: str, expected: dict[str, str]) -> None:
    """A class is named alone or with its factor."""
    assert class_by_factor(text, COLOURED.manifest()) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "hart",
            "no class 'hart'; its classes are square, ellipse, heart, red, blue; did you mean 'heart'?",
        ),
        ("colour=rot", "factor 'colour' has no class 'rot'; its classes are red, blue"),
        ("size=heart", "the model has no class 'size=heart'; its classes are square"),
    ],
)
def test_an_unknown_class_is_rejected(text: str, message: str) -> None:
    """The error lists the classes."""
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
