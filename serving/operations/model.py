"""The model that operations run on, and its implementation for callers without an event loop."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from partedvae.results import FloatArray, ImageArray
from partedvae.serving.onnx.model import OnnxModel
from partedvae.v1.manifest_pb2 import Manifest

T = TypeVar("T")


class Model(Protocol):
    """A model whose graphs can be awaited: `partedvae.serving.batching.model.BatchedModel`, or `DirectModel`."""

    @property
    def onnx_model(self) -> OnnxModel:
        """The loaded model, which all callers share."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def version(self) -> int:
        """Its version."""

    @property
    def manifest(self) -> Manifest:
        """Image size, factors and priors."""

    def check_scores(self) -> None:
        """Raise `BundleError` if the bundle has no scorer."""

    def reserve_images(self, count: int) -> None:
        """Reserve the memory of images that `decode` will return, before anything is made for them."""

    async def encode(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        """Run the encoder; see `OnnxModel.encode`."""

    async def score(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        """Run the scorer; see `OnnxModel.score`."""

    async def decode(self, u: FloatArray, z: FloatArray) -> ImageArray:
        """Run the decoder; see `OnnxModel.decode`."""


class DirectModel:
    """Runs each graph at once in the calling thread. Its coroutines never suspend, so `run_sync` can drive them."""

    def __init__(self, onnx_model: OnnxModel) -> None:
        """Wrap a loaded model."""
        self.onnx_model = onnx_model
        self.name = onnx_model.name
        self.version = onnx_model.version
        self.manifest = onnx_model.manifest

    def check_scores(self) -> None:
        """Raise `BundleError` if the bundle has no scorer."""
        self.onnx_model.check_scores()

    def reserve_images(self, count: int) -> None:
        """Do nothing: the caller's own process has no limit."""

    async def encode(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        """Run the encoder; see `OnnxModel.encode`."""
        return self.onnx_model.encode(images, outputs)

    async def score(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        """Run the scorer; see `OnnxModel.score`."""
        return self.onnx_model.score(images, outputs)

    async def decode(self, u: FloatArray, z: FloatArray) -> ImageArray:
        """Run the decoder; see `OnnxModel.decode`."""
        return self.onnx_model.decode(u, z)


def run_sync(operation: Coroutine[Any, Any, T]) -> T:
    """Run an operation on a `DirectModel` to its end and return its result, without an event loop.

    Example:
        >>> run_sync(features(DirectModel(onnx_model), images))  # doctest: +SKIP

    Raises:
        RuntimeError: the operation suspended, which only one on another kind of model does.
    """
    try:
        operation.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    operation.close()
    raise RuntimeError("the operation waits for an event loop: await it there, or run it on a DirectModel")
