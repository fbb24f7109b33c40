import re
from typing import Any

import pytest

from partedvae.errors import InvalidRequestError
from partedvae.names import class_by_factor, feature_outputs
from partedvae.v1.service_pb2 import FEATURE_OUTPUT_PROBS, FEATURE_OUTPUT_Z_LOGVAR
from tests.bundles import COLOURED


def test_outputs_have_the_names_of_the_contract() -> None:
    """Names become the contract's values."""
    assert feature_outputs(["probs", "z_logvar"]) == [FEATURE_OUTPUT_PROBS, FEATURE_OUTPUT_Z_LOGVAR]


@pytest.mark.parametrize(
    ("include", "message"),
    [
        (["u_men"], "include has 'u_men', which is no feature output; did you mean 'u_mean'?"),
        (["xyzzy"], "include has 'xyzzy', which is no feature output; it takes some of probs, u_mean, u_logvar,"),
        ([], "include names nothing to return; it takes some of probs, u_mean"),
    ],
)
def test_unknown_outputs_are_refused(include: Any, message: str) -> None:
    """A wrong name is answered with the nearest right one."""
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        feature_outputs(include)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("heart", {"shape": "heart"}), ("colour=red", {"colour": "red"}), ("shape=square", {"shape": "square"})],
)
def test_a_class_is_found_by_name(text: str, expected: dict[str, str]) -> None:
    """A class may be named alone, or with its factor."""
    assert class_by_factor(COLOURED.manifest(), text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hart", "the model has no class 'hart': it has square, ellipse, heart, red, blue; did you mean 'heart'?"),
        ("colour=rot", "factor 'colour' has no class 'rot': it has red, blue"),
        ("size=heart", "the model has no class 'size=heart': it has square"),
    ],
)
def test_an_unknown_class_is_refused(text: str, message: str) -> None:
    """What no factor has is answered with what there is."""
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        class_by_factor(COLOURED.manifest(), text)


def test_a_class_of_two_factors_must_be_qualified() -> None:
    """A name that two factors know is refused with the two ways to write it."""
    manifest = COLOURED.manifest()
    manifest.factors[1].class_names[0] = "heart"

    with pytest.raises(InvalidRequestError, match="write 'shape=heart' or 'colour=heart'"):
        class_by_factor(manifest, "heart")
