"""What of a stream of features was sent and is not answered yet, the same for both clients."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from partedvae import replies
from partedvae.errors import PartedVAEError
from partedvae.images import Chunk, chunks, count_of
from partedvae.items import ImageInput
from partedvae.names import FeatureName, feature_outputs
from partedvae.results import FeatureChunk, ImageProblem
from partedvae.v1 import service_pb2 as pb

OnProgress: TypeAlias = Callable[[int, int | None], object]
"""Called with the images that are done, and how many there are, None where that is not known before the end."""


class Exchange:
    """One stream: gives its requests, and turns their replies into chunks of features in the caller's numbers.

    Requests may be taken in another thread than the one that reads replies, as gRPC does. Only a few chunks are held:
    gRPC takes the next one when there is room for it on the way to the server.
    """

    def __init__(
        self,
        selector: pb.ModelSelector,
        images: ImageInput,
        include: Iterable[FeatureName],
        on_progress: OnProgress | None,
    ) -> None:
        """Take what is asked for.

        Raises:
            InvalidRequestError: `include` names no output, or one that does not exist.
        """
        self._selector = selector
        self._outputs = feature_outputs(include)
        self._chunks = chunks(images, leave_out=True)
        self._total = count_of(images)
        self._on_progress = on_progress
        self._done = 0
        self._lock = threading.Lock()
        self._sent: deque[Chunk] = deque()
        self._left_over: Chunk | None = None
        self._waiting_since = time.monotonic()
        # What the caller's images raised, in a thread of gRPC's perhaps: the stream ends there, and `rest` raises it.
        self._failure: Exception | None = None

    def requests(self) -> Iterator[pb.StreamFeaturesRequest]:
        """Give the requests, one for each chunk that has images."""
        first = True
        while (chunk := self._next_chunk()) is not None:
            if not chunk.positions:
                self._left_over = chunk
                return
            with self._lock:
                if not self._sent:
                    self._waiting_since = time.monotonic()
                self._sent.append(chunk)
            if first:
                yield pb.StreamFeaturesRequest(model=self._selector, include=self._outputs, images=chunk.images)
            else:
                yield pb.StreamFeaturesRequest(images=chunk.images)
            first = False

    def answered(self, reply: pb.StreamFeaturesResponse) -> FeatureChunk:
        """Return the result of the oldest chunk that was sent.

        Raises:
            PartedVAEError: the server answers more than was sent.
        """
        with self._lock:
            if not self._sent:
                raise PartedVAEError("the server answered more chunks than were sent; is it one of ours?")
            chunk = self._sent.popleft()
            self._waiting_since = time.monotonic()
        problems = [
            ImageProblem(index=chunk.positions[e.index], name=chunk.name_of(e.index), reason=e.reason)
            for e in reply.errors
        ]
        bad = {error.index for error in reply.errors}
        return self._result(
            FeatureChunk(
                features=replies.features(reply.features) if reply.HasField("features") else None,
                positions=[position for i, position in enumerate(chunk.positions) if i not in bad],
                problems=tuple(sorted([*chunk.problems, *problems], key=lambda problem: problem.index)),
            )
        )

    def rest(self) -> Iterator[FeatureChunk]:
        """Give the problems of the last images, if they could not be sent; to be called at the end.

        Raises:
            Exception: what the caller's images raised.
        """
        if self._failure is not None:
            raise self._failure
        if self._left_over is not None:
            yield self._result(FeatureChunk(features=None, positions=(), problems=self._left_over.problems))

    def locate(self, message: str) -> str:
        """Say "image N" of an error of the whole stream, which is one of the oldest chunk, as the caller counts."""
        with self._lock:
            return self._sent[0].locate(message) if self._sent else message

    @property
    def waits(self) -> float:
        """For how many seconds the oldest chunk that was sent has waited for an answer, or 0."""
        with self._lock:
            return time.monotonic() - self._waiting_since if self._sent else 0.0

    def _next_chunk(self) -> Chunk | None:
        try:
            return next(self._chunks, None)
        except Exception as error:
            self._failure = error
            return None

    def _result(self, chunk: FeatureChunk) -> FeatureChunk:
        self._done += len(chunk.positions) + len(chunk.problems)
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)
        return chunk
