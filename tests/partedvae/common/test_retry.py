"""Which errors of reading pass by themselves."""

from __future__ import annotations

import errno

import pytest

from partedvae.common.retry import Retries, is_transient


class HTTPError(Exception):
    """An error with a status, as clients of HTTP raise."""

    def __init__(self, status: int) -> None:
        self.status = status


class ClientConnectionError(Exception):
    """An error with the name of aiohttp's."""


class ServerDisconnectedError(ClientConnectionError):
    """A more special one."""


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.EIO, "x"), True),
        (OSError(errno.ENOENT, "x"), False),
        (FileNotFoundError("x"), False),
        (PermissionError("403"), False),
        (ConnectionResetError("x"), True),
        (TimeoutError(), True),
        (HTTPError(503), True),
        (HTTPError(429), True),
        (HTTPError(404), False),
        (ServerDisconnectedError("x"), True),
        (ValueError("x"), False),
    ],
)
def test_errors_that_pass(error: Exception, passes: bool) -> None:
    assert is_transient(error) is passes
    waits: list[float] = []

    def read() -> None:
        raise error

    with pytest.raises(type(error)):
        Retries(sleep=waits.append, delays=(1, 2, 3))(read)
    assert waits == ([1, 2, 3] if passes else [])
