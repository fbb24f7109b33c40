import re
from typing import Any

import pytest

from partedvae.errors import InvalidRequestError
from partedvae.requests import feature_outputs
from partedvae.v1.service_pb2 import FEATURE_OUTPUT_PROBS, FEATURE_OUTPUT_Z_LOGVAR


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
