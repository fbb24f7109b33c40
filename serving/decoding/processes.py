"""A bounded number of decoding processes, which are started when they are needed and end when they are idle."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from partedvae.serving.decoding.job import Job, Reply
from partedvae.serving.decoding.process import DecodeProcess, ProcessEndedError
from partedvae.serving.errors import OverloadedError

logger = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""Time after which a process without work ends. A new one needs some tenths of a second."""
EXHAUSTED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Errors of a system that has no processes, memory or descriptors left at the moment."""
RETRY_AFTER = 1.0
"""Seconds after which a caller should try again when the system cannot start a process."""
WALL_FACTOR, START_SECONDS = 4, 10.0
"""A process is killed after this multiple of the processor time that it may take, since it may wait for a processor,
and the time in which it starts."""


class OutOfTimeError(Exception):
    """Decoding took too long, and was ended."""


class CrashedError(Exception):
    """The decoder crashed."""


class DecodeProcesses:
    """Decodes one file per process at a time. Use it from the event loop; close it at the end."""

    def __init__(self, count: int, idle_seconds: float = IDLE_SECONDS) -> None:
        """Create it without starting a process.

        Args:
            count: maximum number of processes.
            idle_seconds: time after which a process without work ends.
        """
        self.count = count
        self._idle_seconds = idle_seconds
        self._slots = asyncio.Semaphore(count)
        # A thread waits for each process, and others for the end of processes that were killed.
        self._threads = ThreadPoolExecutor(2 * count, thread_name_prefix="partedvae-decode")
        self._idle: list[tuple[DecodeProcess, asyncio.TimerHandle]] = []
        self._all: set[DecodeProcess] = set()
        self._ending: set[asyncio.Future[None]] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The process ids of the processes that run."""
        return [process.pid for process in self._all if process.pid is not None]

    async def decode(self, job: Job, file: Callable[[], bytes]) -> tuple[Reply, bytes]:
        """Decode a file, and return kind and content of the reply. Cancelling the call kills the process.

        Args:
            job: how to decode it.
            file: returns its bytes; called in a thread.

        Raises:
            OutOfTimeError: it takes longer than `job.seconds`.
            CrashedError: the decoder crashed.
            OverloadedError: the system cannot start a process at the moment.
            RuntimeError: a process cannot be used, which is a fault of this installation.
        """
        async with self._slots:
            process = self._take()
            is_usable = False
            began = time.monotonic()
            try:
                async with asyncio.timeout(WALL_FACTOR * job.seconds + START_SECONDS):
                    reply = await asyncio.get_running_loop().run_in_executor(self._threads, process.decode, job, file)
                is_usable = True
                return reply
            except TimeoutError as error:
                raise OutOfTimeError from error
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                reason = f"no process to decode an image can be started ({error.strerror or error})"
                raise OverloadedError(reason, RETRY_AFTER) from error
            except ProcessEndedError as error:
                if error.is_out_of_time:
                    raise OutOfTimeError from error
                if not error.is_crash:
                    raise RuntimeError(f"a decoding process does not work: {error}") from error
                logger.warning("a decoder crashed: %s after %.1f s", error, time.monotonic() - began)
                raise CrashedError from error
            finally:
                if is_usable and not self._closed:
                    timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._end_idle, process)
                    self._idle.append((process, timer))
                else:
                    self._end(process)

    async def close(self) -> None:
        """Kill all processes, and wait until they have ended: some milliseconds."""
        self._closed = True
        for _, timer in self._idle:
            timer.cancel()
        self._idle.clear()
        for process in list(self._all):
            self._end(process)
        await asyncio.gather(*self._ending)
        self._threads.shutdown(wait=False)

    def _take(self) -> DecodeProcess:
        """Return the process that was used last, or a new one."""
        if self._idle:
            process, timer = self._idle.pop()
            timer.cancel()
        else:
            process = DecodeProcess()
            self._all.add(process)
        return process

    def _end_idle(self, process: DecodeProcess) -> None:
        self._idle = [item for item in self._idle if item[0] is not process]
        self._end(process)

    def _end(self, process: DecodeProcess) -> None:
        """Kill a process, and wait for its end in a thread."""
        if process not in self._all:
            return
        self._all.remove(process)
        process.kill()
        ended = asyncio.get_running_loop().run_in_executor(self._threads, process.close)
        self._ending.add(ended)
        ended.add_done_callback(self._ending.discard)
