"""A small HTTP server for probes and metrics, bounded in connections, memory and time, in one thread.

Each connection gets one reply. A caller that is slow holds one of `MAX_CONNECTIONS` for `CONNECTION_SECONDS` at most,
and is the first to lose it when others need it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
"""Open connections; the oldest is closed for a further one."""
MAX_RATE = 500
"""Connections accepted per second. More would slow down calls: each takes about 0.2 ms of the interpreter."""
MAX_HEAD_BYTES = 8192
"""Request line and headers."""
REQUEST_SECONDS = 5.0
"""Time until the head of a request must have arrived."""
CONNECTION_SECONDS = 15.0
"""Time until the reply must have been read."""
LINGER_SECONDS = 0.5
"""Time for which the rest of a request is read after the reply, which a reset of the connection could discard."""
CHUNK_BYTES = 64 * 1024
METHODS = ("GET", "HEAD")


@dataclass(frozen=True)
class Reply:
    """The reply to a request."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Route: TypeAlias = Callable[[], Awaitable[Reply]]


class HttpServer:
    """Serves GET and HEAD of fixed paths. Headers, bodies and query strings of requests are ignored."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        """Create a server.

        Args:
            routes: coroutine functions that return the reply, by path.
        """
        self._routes = routes
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}  # The oldest first.

    @asynccontextmanager
    async def serving(self, listener: socket.socket) -> AsyncIterator[None]:
        """Accept connections of a listening socket in the block, and close all of them at its end."""
        # Connections inherit it. A reply in the system's buffer, which can grow to megabytes, counts as read.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK_BYTES)
        listener.setblocking(False)
        accepting = asyncio.create_task(self._accept(listener))
        try:
            yield
        finally:
            tasks = [accepting, *self._open.values()]
            for writer in self._open:
                writer.transport.abort()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        """Accept connections one by one; others wait in the system's queue."""
        while True:
            # Also after errors: without free descriptors, the next attempt would fail as well.
            await asyncio.sleep(1 / MAX_RATE)
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                self._connected(*await asyncio.open_connection(sock=connection, limit=MAX_HEAD_BYTES))
            except OSError as error:
                logger.debug("a connection was not accepted: %s", error)
            except Exception:  # The probes must go on.
                logger.exception("a connection was not accepted")

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            _reset(oldest)
        self._open[writer] = asyncio.create_task(self._answer(reader, writer))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Otherwise the buffer of a closed connection is kept until it has been read.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            async with asyncio.timeout(CONNECTION_SECONDS):
                method, reply = await self._reply(reader)
                await _write(writer, reply, with_body=method != "HEAD")
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while await reader.read(CHUNK_BYTES):
                        pass
        except TimeoutError:
            _reset(writer)
        except (OSError, asyncio.IncompleteReadError):  # The caller has gone.
            pass
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _reply(self, reader: asyncio.StreamReader) -> tuple[str, Reply]:
        """Read a request and return its method and the reply."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return "", _text(HTTPStatus.REQUEST_TIMEOUT, f"no complete request within {REQUEST_SECONDS:g} s")
        except asyncio.LimitOverrunError:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            return "", _text(status, f"request line and headers have more than {MAX_HEAD_BYTES} bytes")
        try:
            method, target, version = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
            path = urlsplit(target).path
        except ValueError:
            version = ""
        if not version.startswith("HTTP/1."):
            return "", _text(HTTPStatus.BAD_REQUEST, "not an HTTP/1 request")
        route = self._routes.get(path)
        if route is None:
            return method, _text(HTTPStatus.NOT_FOUND, f"no such path; choose from {', '.join(self._routes)}")
        if method not in METHODS:
            return method, _text(HTTPStatus.METHOD_NOT_ALLOWED, f"use {' or '.join(METHODS)}")
        try:
            return method, await route()
        except Exception:
            logger.exception("%s failed", path)
            return method, _text(HTTPStatus.INTERNAL_SERVER_ERROR, "failed; the server's log has the reason")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection; otherwise the system would keep what has not been read of a reply for minutes."""
    with suppress(OSError):  # It is closed already.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _text(status: HTTPStatus, text: str) -> Reply:
    return Reply(status, text.encode() + b"\n")


async def _write(writer: asyncio.StreamWriter, reply: Reply, *, with_body: bool) -> None:
    allow = f"Allow: {', '.join(METHODS)}\r\n" if reply.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\nContent-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\nCache-Control: no-store\r\n{allow}Connection: close\r\n\r\n"
    )
    body = reply.body if with_body else b""
    writer.write(head.encode() + body[:CHUNK_BYTES])
    for start in range(CHUNK_BYTES, len(body), CHUNK_BYTES):  # In parts, so that the buffer never has all of it.
        await writer.drain()
        writer.write(body[start : start + CHUNK_BYTES])
    await writer.drain()
    with suppress(OSError):
        writer.write_eof()
