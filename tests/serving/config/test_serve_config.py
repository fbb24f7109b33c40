"""Defaults of the options of `partedvae serve`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from partedvae.serving.batching.scheduler import BatchPolicy
from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.images import DEFAULT_LIMITS

DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(ServeConfig)}


@pytest.mark.parametrize("name", ["max_images", "max_pixels", "max_request_pixels"])
def test_the_limits_of_the_server_are_those_of_a_local_model(name: str) -> None:
    assert DEFAULTS[name] == getattr(DEFAULT_LIMITS, name)


@pytest.mark.parametrize("name", ["max_batch_rows", "max_queue_rows"])
def test_the_batch_policy_has_the_same_defaults(name: str) -> None:
    assert DEFAULTS[name] == getattr(BatchPolicy(), name)
