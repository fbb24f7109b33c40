"""Both clients behind one fixture: what one can, the other can."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from partedvae import AsyncClient, Client


def synchronous(address: str, method: str, *args: Any, settings: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    with Client(address, **(settings or {})) as client:
        return getattr(client, method)(*args, **kwargs)


def asynchronous(address: str, method: str, *args: Any, settings: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    async def call() -> Any:
        async with AsyncClient(address, **(settings or {})) as client:
            return await getattr(client, method)(*args, **kwargs)

    return asyncio.run(call())


Call = Callable[..., Any]
"""call(address, method, *args, settings={}, **kwargs)"""


@pytest.fixture(params=[synchronous, asynchronous], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Call one method of a client, of either kind."""
    chosen: Call = request.param
    return chosen
