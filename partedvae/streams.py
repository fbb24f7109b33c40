"""The state of one stream of features, shared by both clients: chunks without a response yet, and interruptions.

A stream that a server or a network interrupts is opened again, and goes on with the chunks that have no response.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from partedvae.backoff import ATTEMPTS, Backoff
from partedvae.errors import PartedVAEError, UnavailableError
from partedvae.image_chunks import Chunk, chunks, count_of
from partedvae.image_items import ImageInput
from partedvae.packing import Packing
from partedvae.requests import FeatureName, feature_outputs
from partedvae.results import FeatureChunk, Features, ImageProblem
from partedvae.v1 import service_pb2 as pb

OnProgress: TypeAlias = Callable[[int, int | None], object]
"""Called with the number of images that are done and the total, None where the total is not known in advance."""


class FeatureStream:
    """Yields the requests of a stream and matches each response to its chunk, with positions as the caller counts.

    gRPC reads the requests in its own thread while the caller reads responses. Flow control limits how far it reads
    ahead, so that only a few chunks are in memory.
    """

    def __init__(
        self,
        selector: pb.ModelSelector,
        images: ImageInput,
        include: Iterable[FeatureName],
        on_progress: OnProgress | None,
    ) -> None:
        """Check the arguments, which are those of `Client.stream_features`; nothing is read yet.

        Raises:
            InvalidRequestError: `include` is empty or has an unknown name.
        """
        self._selector = selector
        self._outputs = feature_outputs(include)
        self._images = images
        self._chunks: Iterator[Chunk] = iter(())
        self._total = count_of(images)
        self._on_progress = on_progress
        self._done = 0
        self._lock = threading.Lock()
        self._pending: deque[Chunk] = deque()
        self._received = 0
        self._unsent: Chunk | None = None
        # Held while a chunk is read: the thread of an interrupted call may still wait for the caller's iterator.
        self._reading = threading.Lock()
        self._all_read = False
        self._backoff: Backoff | None = None  # Since the first failure after a response.
        self._waiting_since = time.monotonic()
        # Raised by the caller's iterator, perhaps in a thread of gRPC: the stream ends there, and `finish` raises it.
        self._failure: Exception | None = None

    def start(self, packing: Packing) -> None:
        """Set how the images are packed into messages, before the first request."""
        self._chunks = chunks(self._images, packing, skip_unreadable=True)

    def requests(self) -> Iterator[pb.StreamFeaturesRequest]:
        """Yield the requests of a call: one per chunk that has images, from the oldest one without a response."""
        first = True
        with self._lock:
            number = self._received
            self._waiting_since = time.monotonic()
        while (chunk := self._chunk(number)) is not None:
            number += 1
            if first:
                yield pb.StreamFeaturesRequest(model=self._selector, include=self._outputs, images=chunk.images)
            else:
                yield pb.StreamFeaturesRequest(images=chunk.images)
            first = False

    def receive(self, response: pb.StreamFeaturesResponse) -> FeatureChunk:
        """Return the result of the oldest pending chunk.

        Raises:
            PartedVAEError: there are more responses than requests.
        """
        with self._lock:
            if not self._pending:
                raise PartedVAEError("the server sent more responses than it got requests; is it a PartedVAE server?")
            chunk = self._pending.popleft()
            self._received += 1
            self._backoff = None
            self._waiting_since = time.monotonic()
        if response.features.model.version:
            # All features are those of one version, also if the stream is opened again.
            self._selector = pb.ModelSelector(
                name=response.features.model.name, version=response.features.model.version
            )
        problems = [
            ImageProblem(index=chunk.positions[e.index], name=chunk.name_of(e.index), reason=e.reason)
            for e in response.errors
        ]
        failed = {error.index for error in response.errors}
        return self._counted(
            FeatureChunk(
                features=Features.from_response(response.features) if response.HasField("features") else None,
                positions=[position for i, position in enumerate(chunk.positions) if i not in failed],
                problems=tuple(sorted([*chunk.problems, *problems], key=lambda problem: problem.index)),
            )
        )

    def retry_delay(self, error: PartedVAEError, timeout: float | None) -> float | None:
        """Return the seconds after which to open the stream again; None where it has failed for good.

        Also without a response so far: the server has told its limits before.

        Args:
            error: the error that has ended the call.
            timeout: seconds without a response after which an interrupted stream fails; see `Backoff`.
        """
        if self._backoff is None:
            # A server that is replaced is away for longer than a few attempts take; one that is full without naming a
            # time, may always be.
            self._backoff = Backoff(timeout, attempts=None if isinstance(error, UnavailableError) else ATTEMPTS)
        return self._backoff.delay(error)

    @property
    def is_complete(self) -> bool:
        """Whether all chunks have responses, and nothing is left to open the stream for."""
        with self._lock:
            return self._all_read and not self._pending and self._received > 0

    def finish(self) -> Iterator[FeatureChunk]:
        """Yield the problems of the last images, which no request carried; to be called after the last response.

        Raises:
            Exception: the exception of the caller's iterator.
            PartedVAEError: images are left, although the server has ended the call without an error.
        """
        if self._failure is not None:
            raise self._failure
        with self._lock:
            if self._pending or not self._all_read:
                raise PartedVAEError("the server ended the stream before all images were sent; try again")
        if self._unsent is not None:
            yield self._counted(FeatureChunk(features=None, positions=(), problems=self._unsent.problems))

    def locate(self, message: str) -> str:
        """Replace image numbers in an error of the whole stream, which is one of the oldest pending chunk."""
        with self._lock:
            return self._pending[0].locate(message) if self._pending else message

    @property
    def waiting_seconds(self) -> float:
        """How long the oldest pending chunk has waited for its response; 0 where none is pending."""
        with self._lock:
            return time.monotonic() - self._waiting_since if self._pending else 0.0

    def _chunk(self, number: int) -> Chunk | None:
        """Return the chunk of a number, counted from 0, which is read if it was not yet; None after the last one."""
        with self._reading:
            with self._lock:
                position = number - self._received
                if position < 0:
                    return None  # Another call has the response already: this one was interrupted.
                if position < len(self._pending):
                    return self._pending[position]
            chunk = None if self._all_read else self._next_chunk()
            if chunk is None or not chunk.positions:
                self._all_read, self._unsent = True, self._unsent or chunk
                return None
            with self._lock:
                if not self._pending:
                    self._waiting_since = time.monotonic()
                self._pending.append(chunk)
            return chunk

    def _next_chunk(self) -> Chunk | None:
        try:
            return next(self._chunks, None)
        except Exception as error:
            self._failure = error
            return None

    def _counted(self, chunk: FeatureChunk) -> FeatureChunk:
        self._done += len(chunk.positions) + len(chunk.problems)
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)
        return chunk
