"""Defaults of the options of `partedvae serve`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from partedvae.serving.batching.scheduler import BatchPolicy
from partedvae.serving.config import serve_config as module
from partedvae.serving.config.serve_config import MIB, MIN_MESSAGES, ServeConfig
from partedvae.serving.errors import ConfigError
from partedvae.serving.grpc.method import COPIES
from partedvae.serving.images import DEFAULT_LIMITS
from partedvae.serving.memory_budget import MemoryBudget

DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(ServeConfig)}


@pytest.mark.parametrize("name", ["max_images", "max_pixels", "max_request_pixels"])
def test_the_limits_of_the_server_are_those_of_a_local_model(name: str) -> None:
    assert DEFAULTS[name] == getattr(DEFAULT_LIMITS, name)


@pytest.mark.parametrize("name", ["max_batch_rows", "max_queue_rows"])
def test_the_batch_policy_has_the_same_defaults(name: str) -> None:
    assert DEFAULTS[name] == getattr(BatchPolicy(), name)


def config(**values: Any) -> ServeConfig:
    return ServeConfig(models_dir=Path("models"), **values)


@pytest.mark.parametrize(
    ("available_mb", "workers", "max_message_mb", "memory_mb"),
    [
        (2000, 1, 16, 1000),
        (4000, 4, 16, 500),
        (100_000, 1, 16, 4096),
        (100_000, 50, 16, 1000),
        (100, 1, 16, 16 * MIN_MESSAGES),
        (1000, 1, 1, 500),
        (100, 1, 1, 50),
    ],
    ids=["half", "divided", "most", "divided most", "least for messages", "small messages", "small machine"],
)
def test_the_default_memory(
    monkeypatch: pytest.MonkeyPatch, available_mb: int, workers: int, max_message_mb: int, memory_mb: int
) -> None:
    """Half of what the workers share, at most 4 GiB, and at least what the largest message needs."""
    monkeypatch.setattr(module, "available_memory", lambda: available_mb * MIB)
    assert config(workers=workers, max_message_mb=max_message_mb).memory_bytes == memory_mb * MIB


def test_the_memory_is_what_was_asked_for() -> None:
    assert config(memory_mb=400).memory_bytes == 400 * MIB


def test_too_little_memory_for_the_messages() -> None:
    """The error names both options, and values that fit."""
    most = 16 * MIN_MESSAGES
    with pytest.raises(ConfigError) as caught:
        config(memory_mb=most - 1)
    assert str(caught.value) == (
        f"--memory-mb is {most - 1}, too little for messages of 16 MiB; choose at least {most}, or a smaller "
        "--max-message-mb"
    )
    assert config(memory_mb=most).memory_bytes == most * MIB
    assert config(memory_mb=96, max_message_mb=4).memory_bytes == 96 * MIB


@pytest.mark.parametrize(
    ("name", "value", "bounds"),
    [
        ("memory_mb", 31, "at least 32"),
        ("transfer_seconds", 0.0, "0.1 to 86400"),
        ("transfer_seconds", 86_401.0, "0.1 to 86400"),
        ("transfer_seconds", float("nan"), "0.1 to 86400"),
        ("idle_seconds", -1.0, "0.1 to 86400"),
        ("idle_seconds", float("inf"), "0.1 to 86400"),
        ("max_message_mb", 1024, "1 to 1023"),
    ],
)
def test_values_out_of_range(name: str, value: float, bounds: str) -> None:
    flag = name.replace("_", "-")
    with pytest.raises(ConfigError, match=f"^--{flag} is {value}; choose {bounds}$"):
        config(**{name: value})


def test_a_message_of_the_largest_size_fits_into_the_memory() -> None:
    """All copies of a request are at most what all requests may take."""
    least = config(memory_mb=16 * MIN_MESSAGES)
    MemoryBudget(least.memory_bytes).messages.reserve(COPIES * least.max_message_bytes)
