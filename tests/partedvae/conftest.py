"""Both clients behind one fixture, so that every test runs with each."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from partedvae import AsyncClient, Client


def synchronous(address: str, method: str, *args: Any, settings: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    with Client(address, **(settings or {})) as client:
        return getattr(client, method)(*args, **kwargs)


def asynchronous(address: str, method: str, *args: Any, **kwargs: Any) -> Any:
    return asyncio.run(awaited(address, method, *args, **kwargs))


async def awaited(address: str, method: str, *args: Any, settings: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    async with AsyncClient(address, **(settings or {})) as client:
        return await getattr(client, method)(*args, **kwargs)


Call = Callable[..., Any]
"""call(address, method, *args, settings={}, **kwargs)"""


@pytest.fixture(params=[synchronous, asynchronous], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Return a function that calls one method of a client, for each client."""
    chosen: Call = request.param
    return chosen
