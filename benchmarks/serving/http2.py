"""An HTTP/2 connection that repeats one request, with as little work per request as possible.

The library h2 checks every frame against the state of its stream, which takes longer than a server needs for the
request. Here only the requests' stream numbers differ, and of a response only its length and its end are looked at.
Everything else, such as settings and windows, is encoded and decoded by hyperframe and hpack.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from benchmarks.serving.load import BenchmarkError, Target

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER = struct.Struct(">HBBBI")
"""Length in two parts, type, flags, and number of the stream."""
END_STREAM = 0x1
END_HEADERS = 0x4
MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
MAX_FRAME = 16_384
"""Length of a frame's payload that every server accepts."""
DEFAULT_HEADER_TABLE = 4096
READ_BYTES = 1 << 16
CONNECT_SECONDS = 10.0


class RequestConnection:
    """A connection that sends the same request on up to a number of streams. Does not block once it is open."""

    def __init__(self, connection: socket.socket, target: Target, streams: int) -> None:
        """Exchange settings with the server; `open` is the usual way.

        Args:
            connection: a connected socket.
            target: the request.
            streams: maximum concurrent requests, unless the server allows fewer.
        """
        self._socket = connection
        self._target = target
        self._expected = target.response_bytes + len(target.body) - len(target.message)
        self._streams = streams
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._header_table = DEFAULT_HEADER_TABLE
        self._has_settings = False
        self._unsent = bytearray()
        self._received = b""
        self._unacknowledged = 0
        self._next_stream = 1
        self._responses: dict[int, list[float]] = {}
        """Due time and bytes received so far, by stream."""
        settings = {SettingsFrame.INITIAL_WINDOW_SIZE: MAX_WINDOW, SettingsFrame.ENABLE_PUSH: 0}
        self._unsent += PREFACE + SettingsFrame(settings=settings).serialize()
        self._unsent += WindowUpdateFrame(0, window_increment=MAX_WINDOW - DEFAULT_WINDOW).serialize()
        self.flush()
        while not self._has_settings:
            self.receive()
        if len(target.body) > min(self._window, self._stream_window):
            raise BenchmarkError(
                f"the request has {len(target.body)} bytes, but {target.address} accepts only "
                f"{min(self._window, self._stream_window)} before it has read a part; send fewer images"
            )
        self._first, self._others = _encode(target, self._header_table)
        connection.setblocking(False)

    @classmethod
    @contextmanager
    def open(cls, target: Target, streams: int) -> Iterator[Self]:
        """Connect to the target's server within the block.

        Raises:
            OSError: the connection failed.
        """
        host, _, port = target.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield cls(connection, target, streams)

    def fileno(self) -> int:
        """Return the socket's file descriptor, for `select`."""
        return self._socket.fileno()

    @property
    def active(self) -> int:
        """Requests that have no response yet."""
        return len(self._responses)

    @property
    def is_free(self) -> bool:
        """Whether another request may be sent."""
        return len(self._responses) < self._streams and self._window >= len(self._target.body)

    def send(self, due: float) -> None:
        """Buffer a request; `receive` returns `due` when its response has arrived."""
        stream = self._next_stream
        self._unsent += stream.to_bytes(4, "big").join(self._first if stream == 1 else self._others)
        self._next_stream += 2
        self._window -= len(self._target.body)
        self._responses[stream] = [due, 0]

    def flush(self) -> bool:
        """Send what is buffered; return whether nothing is left."""
        if self._unsent:
            try:
                del self._unsent[: self._socket.send(self._unsent)]
            except BlockingIOError:
                return False
        return not self._unsent

    def receive(self) -> list[float]:
        """Read what has arrived; return the `due` of each request that is complete.

        Raises:
            BenchmarkError: a request failed.
            OSError: the connection is lost.
        """
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise ConnectionError("the server closed the connection")
        data = self._received + data
        position, done = 0, []
        while len(data) - position >= FRAME_HEADER.size:
            high, low, kind, flags, stream = FRAME_HEADER.unpack_from(data, position)
            body = position + FRAME_HEADER.size
            end = body + (high << 8 | low)
            if end > len(data):
                break
            if kind == DataFrame.type:
                self._unacknowledged += end - body
                if stream in self._responses:
                    self._responses[stream][1] += end - body
            elif kind != HeadersFrame.type:
                self._control(data[position:end])
            if flags & END_STREAM and kind in (DataFrame.type, HeadersFrame.type):
                done.append(self._complete(stream))
            position = end
        self._received = data[position:]
        if self._unacknowledged > MAX_WINDOW // 2:
            self._unsent += WindowUpdateFrame(0, window_increment=self._unacknowledged).serialize()
            self._unacknowledged = 0
        return done

    def _complete(self, stream: int) -> float:
        due, received = self._responses.pop(stream)
        if received != self._expected:
            raise self._failure(f"the response has {received:.0f} bytes, expected {self._expected}")
        return due

    def _control(self, data: bytes) -> None:
        """Handle a frame that is neither data nor headers."""
        frame, _ = Frame.parse_frame_header(memoryview(data)[: FRAME_HEADER.size])
        frame.parse_body(memoryview(data)[FRAME_HEADER.size :])
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self._has_settings = True
            self._streams = min(self._streams, frame.settings.get(SettingsFrame.MAX_CONCURRENT_STREAMS, self._streams))
            self._stream_window = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._stream_window)
            table = frame.settings.get(SettingsFrame.HEADER_TABLE_SIZE, DEFAULT_HEADER_TABLE)
            self._header_table = min(self._header_table, table)
            self._unsent += SettingsFrame(flags=["ACK"]).serialize()
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self._unsent += PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]).serialize()
        elif isinstance(frame, WindowUpdateFrame) and frame.stream_id == 0:
            self._window += frame.window_increment
        elif isinstance(frame, GoAwayFrame):
            raise self._failure(f"the server ends the connection: error {frame.error_code}")
        elif isinstance(frame, RstStreamFrame) and frame.stream_id in self._responses:
            raise self._failure(f"the server reset the stream: error {frame.error_code}")

    def _failure(self, reason: str) -> BenchmarkError:
        return BenchmarkError(f"a request to {self._target.address}{self._target.path} failed: {reason}")


def _encode(target: Target, header_table: int) -> tuple[list[bytes], list[bytes]]:
    """Return the first request of a connection, and all others, as parts between which the number of the stream comes.

    The first request adds the headers to the server's table, and the others refer to it.
    """
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", target.path),
        (":authority", target.address),
        *([("content-type", "application/grpc"), ("te", "trailers")] if target.grpc else []),
        *([] if target.grpc else [("content-length", str(len(target.body)))]),
    ]
    encoder = Encoder()
    encoder.header_table_size = header_table
    chunks = [target.body[start : start + MAX_FRAME] for start in range(0, len(target.body), MAX_FRAME)] or [b""]

    def parts() -> list[bytes]:
        frames = [(HeadersFrame.type, END_HEADERS, encoder.encode(headers))]
        frames += [(DataFrame.type, 0, chunk) for chunk in chunks[:-1]]
        frames.append((DataFrame.type, END_STREAM, chunks[-1]))
        result = [b""]
        for kind, flags, payload in frames:
            result[-1] += FRAME_HEADER.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, 0)[:5]
            result.append(payload)
        return result

    return parts(), parts()
