"""The synchronous client has the methods of the asynchronous one."""

from __future__ import annotations

import inspect

import pytest

from partedvae import AsyncClient, Client

METHODS = [name for name in vars(AsyncClient) if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_have_the_same_signatures(name: str) -> None:
    """Names, defaults and annotations of all arguments."""
    sync, asynchronous = inspect.signature(getattr(Client, name)), inspect.signature(getattr(AsyncClient, name))

    assert list(sync.parameters.values()) == list(asynchronous.parameters.values())


def test_the_docstrings_name_their_own_client() -> None:
    """The words of asyncio are not in those of the synchronous client."""
    assert Client.__doc__ is not None
    assert AsyncClient.__doc__ is not None
    assert "with Client(" in Client.__doc__
    assert "async with AsyncClient(" in AsyncClient.__doc__
    for word in ("async", "await", "event loop"):
        assert word not in Client.__doc__
