"""A decoding process: reads jobs from the socket that its first argument names, until the server closes it.

It imports only what decoding needs. While it decodes, it is ended by the system if it takes too much processor time or
if the server is gone: signals also interrupt a decoder that never returns to Python.
"""

from __future__ import annotations

import fcntl
import io
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from partedvae.common.image_decoding import DamagedImageError, fit_image, load_pixels, open_image
from partedvae.common.image_formats import UnsupportedImageError
from partedvae.common.image_structure import ExcessiveImageError
from partedvae.serving.decoding.job import Job, Reply

STATM = Path("/proc/self/statm")
_DATA_PAGES = 5
"""Field of /proc/self/statm: pages of data and stack, which RLIMIT_DATA limits."""

MAX_TRACEBACK = 8000
"""Characters of a traceback that are sent."""


def main() -> None:
    """Decode until the socket is closed."""
    with Connection(int(sys.argv[1])) as connection:
        try:
            while True:
                job, file = Job.from_json(connection.recv_bytes()), connection.recv_bytes()
                with _ends_with_server(connection.fileno()), _processor_time(job.seconds), _memory(job.memory):
                    kind, content = decode(job, file)
                connection.send_bytes(kind.encode())
                connection.send_bytes(content)
        except (EOFError, ConnectionError):
            return


def decode(job: Job, file: bytes) -> tuple[Reply, bytes]:
    """Decode a file, and return kind and content of the reply."""
    try:
        image = open_image(io.BytesIO(file))
        if image.width * image.height > job.max_pixels:
            return Reply.TOO_LARGE, f"{image.width}x{image.height}".encode()
        pixels = fit_image(load_pixels(image), job.size, job.fit)
    except UnsupportedImageError as error:
        return Reply.UNSUPPORTED, str(error).encode()
    except DamagedImageError as error:
        return Reply.DAMAGED, str(error).encode()
    except ExcessiveImageError as error:
        return Reply.EXCESSIVE, str(error).encode()
    except MemoryError:
        return Reply.EXCESSIVE, b"the image needs more memory than is available: make it smaller"
    except Exception:
        return Reply.FAILED, traceback.format_exc()[-MAX_TRACEBACK:].encode("utf-8", "replace")
    return Reply.PIXELS, pixels.tobytes()


@contextmanager
def _ends_with_server(descriptor: int) -> Iterator[None]:
    """Let SIGIO end this process when the server closes the socket, however it ended; it sends nothing meanwhile."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)


@contextmanager
def _processor_time(seconds: float) -> Iterator[None]:
    """Let SIGPROF end this process after some processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def _memory(size: int) -> Iterator[None]:
    """Limit the bytes that this process allocates besides what it has, where the system says how much that is."""
    try:
        pages = int(STATM.read_text("ascii").split()[_DATA_PAGES])
    except FileNotFoundError:
        yield
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = pages * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()
