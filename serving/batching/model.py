"""Loaded models whose graphs run in batches, shared by all concurrent callers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from partedvae.results import FloatArray, ImageArray
from partedvae.serving.batching.batcher import Batcher, BatchObserver
from partedvae.serving.batching.request import Columns
from partedvae.serving.batching.scheduler import BatchPolicy, SessionScheduler
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.request_memory import request_memory
from partedvae.v1.manifest_pb2 import Manifest

_IMAGES = ("images",)
LATENT_BYTES = 32
"""Bytes of a number of the latents: as float64 while it is drawn, and as float32 of the request and of the batch."""
IMAGE_COPIES = 4
"""Copies of decoded images that are held at once: as an array, as bytes, in the message, and serialized."""


class BatchedModels:
    """The batchers of all models of a process. Can be used from several threads."""

    def __init__(self, policy: BatchPolicy, observer: BatchObserver | None = None) -> None:
        """Create the scheduler that all models share.

        Args:
            policy: how requests are batched.
            observer: receives measurements of batches.
        """
        self.policy = policy
        """How requests are batched."""
        self._observer = observer
        self.scheduler = SessionScheduler(policy)
        """Runs their batches."""
        self._lock = threading.Lock()
        # Weak: an old version is freed when its last request has completed.
        self._batchers: WeakKeyDictionary[OnnxModel, dict[str, Batcher]] = WeakKeyDictionary()

    def of(self, onnx_model: OnnxModel, *, blocking: bool = False) -> BatchedModel:
        """Return a model for one call; cheap enough to do per request.

        Args:
            onnx_model: the loaded model.
            blocking: whether the call waits for capacity in the queue, as streams do, instead of failing.
        """
        batchers = self._batchers.get(onnx_model)
        return BatchedModel(onnx_model, self._create(onnx_model) if batchers is None else batchers, blocking)

    def close(self) -> None:
        """Start no more batches; running ones end by themselves."""
        self.scheduler.close()

    def _create(self, onnx_model: OnnxModel) -> dict[str, Batcher]:
        with self._lock:
            batchers = self._batchers.get(onnx_model)
            if batchers is None:
                batchers = self._batchers[onnx_model] = {
                    graph: Batcher(
                        onnx_model.name, onnx_model.version, graph, self.policy, self.scheduler, self._observer
                    )
                    for graph in ("encoder", "decoder", "scorer")
                }
            return batchers


@dataclass(slots=True, eq=False)
class BatchedModel:
    """One model, for one call. Results are those of `OnnxModel`, within rounding.

    The first run of a call fails with `OverloadedError` if the queue is full; once a run has completed, later runs of
    the same call wait for capacity, so that an accepted call is not refused half-way. With `blocking` all of them wait.
    """

    onnx_model: OnnxModel
    """The loaded model."""
    _batchers: dict[str, Batcher]
    blocking: bool = False
    """Whether the next run waits for capacity."""
    callers: int = 1
    """Callers whose images `encode` gets, with as many each."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.onnx_model.name

    @property
    def version(self) -> int:
        """Its version."""
        return self.onnx_model.version

    @property
    def manifest(self) -> Manifest:
        """Image size, factors and priors."""
        return self.onnx_model.manifest

    @property
    def feature_bytes(self) -> int:
        """Bytes of everything that can be computed of one image."""
        return self.onnx_model.feature_bytes

    def check_scores(self) -> None:
        """Raise `BundleError` if the bundle has no scorer."""
        self.onnx_model.check_scores()

    def reserve_images(self, count: int) -> None:
        """Reserve the memory of images that `decode` will return, and of their latents, until the reply has gone.

        Raises:
            InvalidInputError: they need more memory than a request may take.
            MemoryLimitError: other requests hold too much memory.
        """
        memory = request_memory.get(None)
        if memory is not None:
            model = self.onnx_model
            memory.reserve(count * (IMAGE_COPIES * model.image_bytes + LATENT_BYTES * model.latent_dims))

    async def encode(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        """Run the encoder; see `OnnxModel.encode`. The results may be views of a whole batch's.

        Raises:
            OverloadedError: the queue is full.
        """
        names = tuple(outputs)
        columns = await self._batchers["encoder"].submit(
            self._run_encoder, (images,), names, blocking=self.blocking, callers=self.callers
        )
        self.blocking = True
        return dict(zip(names, columns, strict=True))

    async def score(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        """Run the scorer; see `OnnxModel.score`.

        Raises:
            BundleError: the bundle has no scorer.
            OverloadedError: the queue is full.
        """
        self.onnx_model.check_scores()
        names = tuple(outputs)
        columns = await self._batchers["scorer"].submit(self._run_scorer, (images,), names, blocking=self.blocking)
        self.blocking = True
        return dict(zip(names, columns, strict=True))

    async def decode(self, u: FloatArray, z: FloatArray) -> ImageArray:
        """Run the decoder; see `OnnxModel.decode`.

        Raises:
            OverloadedError: the queue is full.
        """
        columns = await self._batchers["decoder"].submit(self._run_decoder, (u, z), _IMAGES, blocking=self.blocking)
        self.blocking = True
        images: ImageArray = columns[0]
        return images

    def _run_encoder(self, columns: Columns, outputs: tuple[str, ...]) -> Columns:
        arrays = self.onnx_model.encode(columns[0], outputs)
        return tuple([arrays[name] for name in outputs])

    def _run_scorer(self, columns: Columns, outputs: tuple[str, ...]) -> Columns:
        arrays = self.onnx_model.score(columns[0], outputs)
        return tuple([arrays[name] for name in outputs])

    def _run_decoder(self, columns: Columns, outputs: tuple[str, ...]) -> Columns:
        return (self.onnx_model.decode(*columns),)
