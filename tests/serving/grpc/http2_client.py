"""An HTTP/2 client that does what no gRPC client does: it leaves requests unfinished and replies unread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings

from tests.processes import PATIENCE

READ_BYTES = 1 << 16


def framed(message: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """Return a message with gRPC's prefix; `length` is that of the prefix, where the message is not complete."""
    return bytes([compressed]) + (len(message) if length is None else length).to_bytes(4, "big") + message


class Http2Client:
    """One connection. Statuses of ended streams are in `statuses`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.local_settings = Settings(
            client=True, initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self._h2.initiate_connection()
        self._changed = asyncio.Condition()
        self.statuses: dict[int, dict[str, str]] = {}
        """Trailers of each stream that has ended; empty if it was reset."""
        self.received: dict[int, bytes] = {}
        """What each stream has received."""
        self.is_closed = False
        """Whether the server has closed the connection."""

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int, window: int = 65_535) -> AsyncIterator[Http2Client]:
        """Connect within the block; the server may send `window` bytes on each stream."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = cls(reader, writer, window)
        receiving = asyncio.create_task(client._receive())
        try:
            await client._flush()
            yield client
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            writer.transport.abort()

    @property
    def peer(self) -> str:
        """The address of this client as gRPC's server shows it."""
        host, port = self._writer.get_extra_info("sockname")
        return f"ipv4:{host}:{port}"

    async def call(self, path: str, data: bytes = b"", *, end: bool = True, encoding: str = "identity") -> int:
        """Start a call with some data, and return the number of its stream."""
        stream = self._h2.get_next_available_stream_id()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-encoding": encoding,
        }
        self._h2.send_headers(stream, list(headers.items()), end_stream=end and not data)
        await self._flush()
        if data:
            await self.send(stream, data, end=end)
        return stream

    async def send(self, stream: int, data: bytes, *, end: bool = False, until_ended: bool = False) -> None:
        """Send more data, as far as the server's windows allow; with `until_ended`, only until the stream ends."""
        view = memoryview(data)
        while view and not (until_ended and stream in self.statuses):
            size = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size, len(view))
            if not size:
                await self.until(lambda: stream in self.statuses or self._h2.local_flow_control_window(stream) > 0)
                continue
            self._h2.send_data(stream, bytes(view[:size]), end_stream=end and size == len(view))
            view = view[size:]
            await self._flush()

    async def reset(self, stream: int) -> None:
        """Cancel a call."""
        self._h2.reset_stream(stream, 8)
        await self._flush()

    async def take(self, stream: int, size: int) -> None:
        """Let the server send more bytes on a stream."""
        self._h2.increment_flow_control_window(size, stream)
        await self._flush()

    async def status(self, stream: int) -> dict[str, str]:
        """Wait until a call has ended, and return its trailers."""
        await self.until(lambda: stream in self.statuses)
        return self.statuses[stream]

    async def until(self, condition: object) -> None:
        """Wait for a condition, which is checked whenever something arrives."""
        assert callable(condition)
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(condition)

    async def _receive(self) -> None:
        try:
            while data := await self._reader.read(READ_BYTES):
                for event in self._h2.receive_data(data):
                    self._record(event)
                await self._flush()
                async with self._changed:
                    self._changed.notify_all()
        except OSError:
            pass
        self.is_closed = True
        async with self._changed:
            self._changed.notify_all()

    def _record(self, event: object) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            headers = {str(key): str(value) for key, value in event.headers or ()}
            if "grpc-status" in headers:
                self.statuses[event.stream_id or 0] = headers
        elif isinstance(event, DataReceived):
            stream = event.stream_id or 0
            self.received[stream] = self.received.get(stream, b"") + (event.data or b"")
        elif isinstance(event, StreamReset | StreamEnded):
            self.statuses.setdefault(event.stream_id or 0, {})
        elif isinstance(event, ConnectionTerminated):
            self.is_closed = True

    async def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._writer.write(data)
            await self._writer.drain()
