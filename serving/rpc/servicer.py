"""PartedVAEService: each RPC converts its request, calls the domain and converts the answer, in a worker thread.

The event loop only receives and sends: decoding of images and inference would keep it from every other caller. A caller
that gives up (deadline, cancellation) frees nothing but its own reply; the worker finishes and its answer is dropped.
"""
# The RPCs have the names of the contract.
# ruff: noqa: N802

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, TypeVar

from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceServicer
from serving import inference
from serving.errors import InvalidInputError
from serving.images import ImageLimits
from serving.repository import ModelRepository
from serving.rpc import converters
from serving.runtime import Runtime

if TYPE_CHECKING:
    from partedvae.v1.service_pb2_grpc import _ServicerContext as Context

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class PartedVAEServicer(PartedVAEServiceServicer):
    """The service over a repository of models."""

    def __init__(
        self, repository: ModelRepository, executor: Executor, limits: ImageLimits, max_message_bytes: int
    ) -> None:
        """Take the models, the worker threads and the limits of one request."""
        self._repository = repository
        self._executor = executor
        self._limits = limits
        self._max_message_bytes = max_message_bytes

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Answer with all versions of all models."""
        return await self._in_worker(self._list_models, request)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Answer with one model's manifest."""
        return await self._in_worker(self._get_model, request)

    async def ExtractFeatures(self, request: pb.ExtractFeaturesRequest, context: Context) -> pb.ExtractFeaturesResponse:
        """Answer with the features of each image."""
        return await self._in_worker(self._extract_features, request)

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """Answer with the class of each image."""
        return await self._in_worker(self._classify, request)

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        """Answer with new images."""
        return await self._in_worker(self._generate, request)

    async def Reconstruct(self, request: pb.ReconstructRequest, context: Context) -> pb.ReconstructResponse:
        """Answer with reconstructions."""
        return await self._in_worker(self._reconstruct, request)

    async def _in_worker(self, work: Callable[[Request], Reply], request: Request) -> Reply:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, request)

    def _list_models(self, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[converters.status_message(s) for s in self._repository.statuses()])

    def _get_model(self, request: pb.GetModelRequest) -> pb.GetModelResponse:
        runtime = self._runtime(request.model)
        return pb.GetModelResponse(
            model=converters.model_version(runtime), manifest=runtime.manifest, execution_provider=runtime.provider
        )

    def _extract_features(self, request: pb.ExtractFeaturesRequest) -> pb.ExtractFeaturesResponse:
        runtime = self._runtime(request.model)
        include = converters.include_from(request.include)
        images = converters.images_from(request.images, runtime.manifest.image, self._limits)
        return converters.features_reply(runtime, inference.extract_features(runtime, images, include))

    def _classify(self, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        runtime = self._runtime(request.model)
        images = converters.images_from(request.images, runtime.manifest.image, self._limits)
        return converters.classify_reply(runtime, inference.classify(runtime, images))

    def _generate(self, request: pb.GenerateRequest) -> pb.GenerateResponse:
        runtime = self._runtime(request.model)
        png = converters.png_asked_for(request.format)
        self._check_reply(runtime, min(request.count, self._limits.max_images))
        # 32 bits: short enough to be typed again.
        seed = request.seed if request.HasField("seed") else secrets.randbits(32)
        generated = inference.generate(runtime, request.count, request.classes, seed, self._limits.max_images)
        return converters.generate_reply(runtime, generated, png)

    def _reconstruct(self, request: pb.ReconstructRequest) -> pb.ReconstructResponse:
        runtime = self._runtime(request.model)
        png = converters.png_asked_for(request.format)
        images = converters.images_from(request.images, runtime.manifest.image, self._limits)
        self._check_reply(runtime, len(images))
        return pb.ReconstructResponse(
            model=converters.model_version(runtime),
            images=converters.images_message(inference.reconstruct(runtime, images), png),
        )

    def _runtime(self, selector: pb.ModelSelector) -> Runtime:
        return self._repository.get(selector.name, selector.version)

    def _check_reply(self, runtime: Runtime, count: int) -> None:
        """Refuse to make images that would not fit into one message."""
        spec = runtime.manifest.image
        each = spec.height * spec.width * spec.channels
        if count * each > self._max_message_bytes:
            raise InvalidInputError(
                f"{count} images of {each:,} bytes are above the limit of {self._max_message_bytes:,} bytes a message: "
                f"ask for at most {self._max_message_bytes // each} at a time"
            )
