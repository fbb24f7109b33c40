"""The state of one stream of features, shared by both clients: chunks that were sent and have no response yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from partedvae.errors import PartedVAEError
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
        self._unsent: Chunk | None = None
        self._waiting_since = time.monotonic()
        # Raised by the caller's iterator, perhaps in a thread of gRPC: the stream ends there, and `finish` raises it.
        self._failure: Exception | None = None

    def start(self, packing: Packing) -> None:
        """Set how the images are packed into messages, before the first request."""
        self._chunks = chunks(self._images, packing, skip_unreadable=True)

    def requests(self) -> Iterator[pb.StreamFeaturesRequest]:
        """Yield the requests, one per chunk that has images."""
        first = True
        while (chunk := self._next_chunk()) is not None:
            if not chunk.positions:
                self._unsent = chunk
                return
            with self._lock:
                if not self._pending:
                    self._waiting_since = time.monotonic()
                self._pending.append(chunk)
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
            self._waiting_since = time.monotonic()
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

    def finish(self) -> Iterator[FeatureChunk]:
        """Yield the problems of the last images, which no request carried; to be called after the last response.

        Raises:
            Exception: the exception of the caller's iterator.
        """
        if self._failure is not None:
            raise self._failure
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
