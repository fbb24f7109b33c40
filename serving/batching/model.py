"""A loaded model for the event loop: its graphs behind batchers, for any number of callers at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from partedvae.results import FloatArray, ImageArray
from partedvae.serving.batching.batch import Columns
from partedvae.serving.batching.batcher import Batcher, BatchObserver, BatchPolicy
from partedvae.serving.batching.scheduler import Slots
from partedvae.serving.onnx.model import Runtime

_IMAGES = ("images",)


class BatchedModels:
    """The batchers of all models of a process. Belongs to the event loop that runs when it is made."""

    def __init__(self, policy: BatchPolicy, observer: BatchObserver | None = None) -> None:
        """Take how requests are gathered, and who wants to know of batches."""
        self.policy = policy
        """How requests are gathered."""
        self._observer = observer
        self._slots = Slots(policy.sessions)
        # Nothing here holds a runtime: an old version's goes when its last request has been answered.
        self._batchers: WeakKeyDictionary[Runtime, dict[str, Batcher]] = WeakKeyDictionary()

    def of(self, runtime: Runtime) -> BatchedModel:
        """Return a model's asynchronous side; cheap enough for each request."""
        batchers = self._batchers.get(runtime)
        if batchers is None:
            batchers = self._batchers[runtime] = {
                graph: Batcher(runtime.name, runtime.version, graph, self.policy, self._slots, self._observer)
                for graph in ("encoder", "decoder", "scorer")
            }
        return BatchedModel(runtime, batchers)

    def close(self) -> None:
        """Begin no more batches; those under way end by themselves."""
        self._slots.close()


@dataclass(slots=True, eq=False)
class BatchedModel:
    """One model. Results are those of its runtime, within rounding of what a lone call gets."""

    runtime: Runtime
    """The model itself, for its name, version and manifest."""
    _batchers: dict[str, Batcher]

    async def encode(self, images: ImageArray, outputs: Sequence[str], *, wait: bool = False) -> dict[str, FloatArray]:
        """Run the encoder; arguments and result are those of `Runtime.encode`, results may be views.

        Args:
            images: at least one.
            outputs: names of the outputs to fetch.
            wait: wait for room in the queue, as streams do, rather than be refused.

        Raises:
            OverloadedError: too many images wait already.
        """
        names = tuple(outputs)
        columns = await self._batchers["encoder"].submit(self._run_encoder, (images,), names, wait=wait)
        return dict(zip(names, columns, strict=True))

    async def score(self, images: ImageArray, outputs: Sequence[str], *, wait: bool = False) -> dict[str, FloatArray]:
        """Run the scorer; like `encode`, with the outputs of `Runtime.score`.

        Raises:
            BundleError: the bundle has no scorer.
            OverloadedError: too many images wait already.
        """
        self.runtime.check_scores()
        names = tuple(outputs)
        columns = await self._batchers["scorer"].submit(self._run_scorer, (images,), names, wait=wait)
        return dict(zip(names, columns, strict=True))

    async def decode(self, u: FloatArray, z: FloatArray, *, wait: bool = False) -> ImageArray:
        """Run the decoder; like `encode`."""
        columns = await self._batchers["decoder"].submit(self._run_decoder, (u, z), _IMAGES, wait=wait)
        images: ImageArray = columns[0]
        return images

    def _run_encoder(self, columns: Columns, outputs: tuple[str, ...]) -> Columns:
        arrays = self.runtime.encode(columns[0], outputs)
        return tuple([arrays[name] for name in outputs])

    def _run_scorer(self, columns: Columns, outputs: tuple[str, ...]) -> Columns:
        arrays = self.runtime.score(columns[0], outputs)
        return tuple([arrays[name] for name in outputs])

    def _run_decoder(self, columns: Columns, outputs: tuple[str, ...]) -> Columns:
        return (self.runtime.decode(*columns),)
