"""PartedVAEService: each RPC converts its request, runs the operation on the batched model, and converts the result.

Everything runs on the event loop, or inline in a thread of the native front (`partedvae.serving.inline_task`), except
blocking work: sessions run in the scheduler's threads; image files are decoded and encoded in the thread pool; models
are loaded in a thread of their own.
"""
# The RPCs have the names of the contract.
# ruff: noqa: N802

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeAlias

from partedvae.results import ImageArray
from partedvae.serving.batching.model import BatchedModel
from partedvae.serving.errors import in_field
from partedvae.serving.grpc import converters
from partedvae.serving.grpc import grid_converters as grids
from partedvae.serving.grpc.request_limits import LARGE
from partedvae.serving.grpc.service_context import ServiceContext
from partedvae.serving.grpc.streaming import ChunkHandler, ChunkStream
from partedvae.serving.operations.features import classify, features
from partedvae.serving.operations.latents import decode, reconstruct
from partedvae.serving.operations.sampling import generate, new_seed
from partedvae.serving.operations.transfer import ClassesOfU, ImagesOfU, SourceOfU, transfer, transposed
from partedvae.serving.operations.traverse import Base, traverse
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceServicer
from partedvae.v1.tensors_pb2 import Images

if TYPE_CHECKING:
    from partedvae.v1.service_pb2_grpc import _ServicerContext as Context


FeaturesOfChunk: TypeAlias = ChunkHandler[pb.StreamFeaturesRequest, pb.StreamFeaturesResponse]


class PartedVAEServicer(PartedVAEServiceServicer):
    """The service over a repository of models. Create it in a running event loop."""

    def __init__(self, service_context: ServiceContext) -> None:
        """Create the service with the state that it shares with other services."""
        self._shared = service_context
        self._streams: set[ChunkStream[pb.StreamFeaturesRequest, pb.StreamFeaturesResponse]] = set()

    def stop(self) -> None:
        """Stop all streams: each replies to the requests that it has read, then ends with UNAVAILABLE."""
        for stream in self._streams:
            stream.stop()

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Return all versions of all models."""
        return pb.ListModelsResponse(models=[converters.status_message(s) for s in self._shared.repository.statuses()])

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Return the manifest of one model, and the limits of the server."""
        model = await self._model(request.model)
        return converters.model_response(
            model.onnx_model, self._shared.limits, self._shared.max_message_bytes, self._shared.front
        )

    async def ExtractFeatures(self, request: pb.ExtractFeaturesRequest, context: Context) -> pb.ExtractFeaturesResponse:
        """Return the features of each image."""
        model = await self._model(request.model)
        include = converters.include_from(request.include)
        images = await self._shared.reader.read(request.images, model)
        return converters.features_response(model.onnx_model, await features(model, images, include))

    async def StreamFeatures(
        self, request_iterator: AsyncIterator[pb.StreamFeaturesRequest], context: Context
    ) -> AsyncIterator[pb.StreamFeaturesResponse]:
        """Yield the features of the images of each chunk."""

        async def handler_for(first: pb.StreamFeaturesRequest) -> FeaturesOfChunk:
            model = await self._model(first.model, blocking=True)
            include = converters.include_from(first.include)
            # Without its images, which would stay in memory until the stream ends.
            head = pb.StreamFeaturesRequest(model=first.model, include=first.include)
            return lambda request: self._features_of_chunk(model, include, request, head)

        stream = ChunkStream(aiter(request_iterator), handler_for)
        self._streams.add(stream)
        try:
            async with aclosing(stream.replies()) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._streams.discard(stream)

    async def _features_of_chunk(
        self,
        model: BatchedModel,
        include: Collection[str],
        request: pb.StreamFeaturesRequest,
        first: pb.StreamFeaturesRequest,
    ) -> pb.StreamFeaturesResponse:
        converters.check_chunk(request, first)
        images, errors = await self._shared.reader.read_each(request.images, model)
        if not len(images):
            return converters.stream_response(None, errors)
        result = await features(model, images, include)
        return converters.stream_response(converters.features_response(model.onnx_model, result), errors)

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """Return the class of each image."""
        model = await self._model(request.model)
        images = await self._shared.reader.read(request.images, model)
        result = await classify(model, images, check_familiarity=request.check_familiarity)
        return converters.classify_response(model.onnx_model, result)

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        """Return new images."""
        model = await self._model(request.model)
        png = converters.wants_png(request.format)
        most = self._shared.limits.max_images
        self._shared.check_reply(model.onnx_model, min(request.count, most))
        seed = request.seed if request.HasField("seed") else new_seed()
        generated = await generate(model, request.count, request.classes, seed, most)
        return converters.generate_response(model.onnx_model, generated, await self._pack(generated.images, png))

    async def Reconstruct(self, request: pb.ReconstructRequest, context: Context) -> pb.ReconstructResponse:
        """Return the reconstruction of each image."""
        model = await self._model(request.model)
        png = converters.wants_png(request.format)
        images = await self._shared.reader.read(request.images, model)
        self._shared.check_reply(model.onnx_model, len(images))
        decoded = await reconstruct(model, images)
        return pb.ReconstructResponse(
            model=converters.model_version(model.onnx_model), images=await self._pack(decoded, png)
        )

    async def Decode(self, request: pb.DecodeRequest, context: Context) -> pb.DecodeResponse:
        """Return the images of given latents."""
        model = await self._model(request.model)
        png = converters.wants_png(request.format)
        u, z = converters.latents_from(request, model.manifest)
        most = self._shared.limits.max_images
        self._shared.check_reply(model.onnx_model, min(len(z), most))
        decoded = await decode(model, u, z, most)
        return pb.DecodeResponse(
            model=converters.model_version(model.onnx_model), images=await self._pack(decoded, png)
        )

    async def Traverse(self, request: pb.TraverseRequest, context: Context) -> pb.TraverseResponse:
        """Return images in which one dimension or class changes."""
        model = await self._model(request.model)
        png = converters.wants_png(request.format)
        along = grids.along_from(request)
        base: Base
        if request.WhichOneof("base") == "prior":
            base = grids.prior_base_from(request.prior, new_seed())
        else:
            base = await self._shared.reader.read(request.images, model)
        traversal = await traverse(model, base, along, self._shared.max_reply(model.onnx_model))
        packed = await self._pack(grids.flat(traversal.images), png)
        return grids.traverse_response(model.onnx_model, traversal, packed)

    async def TransferAttributes(
        self, request: pb.TransferAttributesRequest, context: Context
    ) -> pb.TransferAttributesResponse:
        """Return images that combine the u of some images, or of classes, with the z of others."""
        model = await self._model(request.model)
        png, pairs = converters.wants_png(request.format), grids.wants_pairs(request.layout)
        inputs = grids.transfer_inputs_from(request)
        source: SourceOfU
        if isinstance(inputs.u, ClassesOfU):
            source = inputs.u
        else:
            with in_field(inputs.u_field):
                images = await self._shared.reader.read(inputs.u, model)
            source = ImagesOfU(images=images, factors=tuple(request.factors))
        with in_field(inputs.z_field):
            z_images = await self._shared.reader.read(inputs.z, model)
        limit = self._shared.max_reply(model.onnx_model)
        transferred = await transfer(model, z_images, source, pairs=pairs, max_images=limit)
        if inputs.is_transposed and not pairs:
            transferred = transposed(transferred)
        packed = await self._pack(grids.flat(transferred.images), png)
        return pb.TransferAttributesResponse(
            model=converters.model_version(model.onnx_model), grid=grids.grid_message(transferred.images, packed)
        )

    async def _model(self, selector: pb.ModelSelector, *, blocking: bool = False) -> BatchedModel:
        return await self._shared.model(selector.name, selector.version, blocking=blocking)

    async def _pack(self, images: ImageArray, png: bool) -> Images:
        """Pack images for a reply; PNG files are encoded, and large replies packed, in a thread."""
        if not png and images.nbytes < LARGE:
            return converters.images_message(images, png)
        return await self._shared.in_thread(lambda: converters.images_message(images, png))
