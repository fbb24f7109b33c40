"""HTTP/2 connections that break the rules of a gRPC client: no reading, no ending, no limit of streams.

`Connection` follows the protocol by the library h2, except where an attack asks otherwise; `RawConnection` sends any
bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Self

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

Header = tuple[str, str]

READ_BYTES = 1 << 16
UNLIMITED_STREAMS = 2**31 - 1
STATUS_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
CLOSED = "connection closed"
"""Outcome of a request whose connection the server closed before it answered."""


def grpc_message(message: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """Return a message with the prefix of gRPC.

    Args:
        message: serialized message.
        flag: 1 for a compressed message; other values are invalid.
        length: length in the prefix, where it is to be wrong.
    """
    return bytes([flag]) + (len(message) if length is None else length).to_bytes(4, "big") + message


def request_headers(address: str, path: str, extra: Sequence[Header] = ()) -> list[Header]:
    """Return the headers of a gRPC request."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", address),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *extra,
    ]


class Connection:
    """A connection whose requests can stay unfinished, and whose replies can stay unread."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, window: int, reads: bool
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._address = address
        self._reads = reads
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._h2.local_settings = Settings(
            client=True,
            initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: window},
        )
        self._changed = asyncio.Event()
        self._statuses: dict[int, str] = {}
        self._ended: set[int] = set()
        self.closed = False
        """Whether the server has closed the connection, or announced it by GOAWAY."""
        self.received_bytes = 0
        """Bytes of replies."""

    @classmethod
    @asynccontextmanager
    async def open(cls, address: str, *, window: int = 65_535, reads: bool = True) -> AsyncIterator[Self]:
        """Connect within the block.

        Args:
            address: HOST:PORT.
            window: initial window of each stream in bytes, which the server may send before it must wait.
            reads: whether windows are enlarged as replies arrive; otherwise the server waits for ever.

        Raises:
            OSError: nothing listens there.
        """
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        connection = cls(reader, writer, address, window, reads)
        receiver = asyncio.create_task(connection._receive())
        try:
            connection._h2.initiate_connection()
            connection._flush()
            yield connection
        finally:
            receiver.cancel()
            writer.transport.abort()

    async def start(self, path: str, extra: Sequence[Header] = (), *, end: bool = False) -> int:
        """Send the headers of a request and return the number of its stream.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        if self.closed:
            raise ConnectionError(CLOSED)
        try:
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, request_headers(self._address, path, extra), end_stream=end)
        except H2Error as error:
            raise ConnectionError(str(error)) from error
        await self._drain()
        return stream

    async def send(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        """Send data as fast as the server's windows allow; return False if the server ended the stream before.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        view = memoryview(data)
        while True:
            if self.closed:
                raise ConnectionError(CLOSED)
            if stream in self._ended:
                return False
            try:
                size = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size, len(view))
                if size or not len(view):
                    last = size == len(view)
                    self._h2.send_data(stream, bytes(view[:size]), end_stream=end and last)
                    await self._drain()
                    if last:
                        return True
                    view = view[size:]
                    continue
            except H2Error:
                return False
            await self._wait()

    async def request(self, path: str, body: bytes, extra: Sequence[Header] = (), *, end: bool = True) -> int:
        """Send a request, by default to its end, and return the number of its stream.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        stream = await self.start(path, extra)
        await self.send(stream, body, end=end)
        return stream

    async def outcome(self, stream: int) -> str:
        """Wait until a stream has ended; return the name of its status, or how else it ended."""
        while stream not in self._ended and not self.closed:
            await self._wait()
        return self._statuses.get(stream, CLOSED)

    async def reset(self, stream: int) -> None:
        """Cancel a request.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        with suppress(H2Error):
            self._h2.reset_stream(stream, ErrorCodes.CANCEL)
        await self._drain()

    async def enlarge_window(self, stream: int, size: int) -> None:
        """Let the server send some bytes more on a stream whose replies are not read.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        with suppress(H2Error):
            self._h2.increment_flow_control_window(size)
            self._h2.increment_flow_control_window(size, stream)
        await self._drain()

    async def _receive(self) -> None:
        try:
            while data := await self._reader.read(READ_BYTES):
                for event in self._h2.receive_data(data):
                    self._record(event)
                # A hostile client opens as many streams as it likes, whatever the server's settings say.
                self._h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = UNLIMITED_STREAMS
                self._h2.remote_settings.acknowledge()
                self._flush()
                self._changed.set()
        except (OSError, H2Error):
            pass
        self.closed = True
        self._changed.set()

    def _record(self, event: Event) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            headers = dict(event.headers or ())
            if b"grpc-status" in headers:
                code = headers[b"grpc-status"].decode()
                assert event.stream_id is not None
                self._statuses[event.stream_id] = STATUS_NAMES.get(int(code), code)
        elif isinstance(event, DataReceived):
            self.received_bytes += len(event.data or b"")
            if self._reads and event.flow_controlled_length:
                assert event.stream_id is not None
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset):
            assert event.stream_id is not None
            self._statuses.setdefault(event.stream_id, "reset by the server")
            self._ended.add(event.stream_id)
        elif isinstance(event, StreamEnded):
            assert event.stream_id is not None
            self._ended.add(event.stream_id)
        elif isinstance(event, ConnectionTerminated):
            self.closed = True

    def _flush(self) -> None:
        if self._writer.is_closing():
            self.closed = True
        elif data := self._h2.data_to_send():
            self._writer.write(data)

    async def _drain(self) -> None:
        self._flush()
        await self._writer.drain()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class RawConnection:
    """A TCP connection that sends any bytes; what the server sends is read and dropped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def open(cls, address: str, *, reads: bool = True) -> AsyncIterator[Self]:
        """Connect within the block.

        Args:
            address: HOST:PORT.
            reads: whether to read what the server sends.

        Raises:
            OSError: nothing listens there.
        """
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        connection = cls(reader, writer)
        receiver = asyncio.create_task(connection._drop()) if reads else None
        try:
            yield connection
        finally:
            if receiver is not None:
                receiver.cancel()
            writer.transport.abort()

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection; only where it is read."""
        return self._writer.is_closing() or self._reader.at_eof()

    async def send(self, data: bytes) -> None:
        """Send bytes, as fast as the server reads them.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        if self.closed:
            raise ConnectionError(CLOSED)
        self._writer.write(data)
        await self._writer.drain()
        # `drain` returns at once while the buffer of the socket has space: let the reader run too.
        await asyncio.sleep(0)

    async def _drop(self) -> None:
        with suppress(OSError):
            while await self._reader.read(READ_BYTES):
                pass
        self._writer.close()
