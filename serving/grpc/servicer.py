"""PartedVAEService: each RPC converts its request, awaits the domain's operation in batches, converts the answer.

All of it is on the event loop but for what takes long: sessions run in the slots of the batchers, image files are
decoded and encoded in threads, models that are not loaded yet are loaded in threads.
"""
# The RPCs have the names of the contract.
# ruff: noqa: N802

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, TypeAlias

from partedvae.results import ImageArray
from partedvae.serving.batching.model import BatchedModel
from partedvae.serving.grpc import converters
from partedvae.serving.grpc import grid_converters as grids
from partedvae.serving.grpc.service_context import Backend
from partedvae.serving.grpc.streaming import Answer, Stream
from partedvae.serving.operations.features import classify, features
from partedvae.serving.operations.latents import reconstruct
from partedvae.serving.operations.sampling import generate, new_seed
from partedvae.serving.operations.transfer import Style, StyleImages, transfer
from partedvae.serving.operations.traverse import Base, traverse
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceServicer
from partedvae.v1.tensors_pb2 import Images

if TYPE_CHECKING:
    from partedvae.v1.service_pb2_grpc import _ServicerContext as Context


FeaturesOfChunk: TypeAlias = Answer[pb.StreamFeaturesRequest, pb.StreamFeaturesResponse]


class PartedVAEServicer(PartedVAEServiceServicer):
    """The service over a repository of models. Belongs to the event loop that runs when it is made."""

    def __init__(self, backend: Backend) -> None:
        """Take models and limits."""
        self._backend = backend
        self._streams: set[Stream[pb.StreamFeaturesRequest, pb.StreamFeaturesResponse]] = set()

    def stop(self) -> None:
        """End the streams: what they have read is answered, then they are told that the server stops."""
        for stream in self._streams:
            stream.stop()

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Answer with all versions of all models."""
        return pb.ListModelsResponse(models=[converters.status_message(s) for s in self._backend.repository.statuses()])

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Answer with one model's manifest."""
        return converters.model_reply((await self._model(request.model)).onnx_model)

    async def ExtractFeatures(self, request: pb.ExtractFeaturesRequest, context: Context) -> pb.ExtractFeaturesResponse:
        """Answer with the features of each image."""
        model = await self._model(request.model)
        include = converters.include_from(request.include)
        images = await self._backend.reader.read(request.images, model.manifest.image)
        return converters.features_reply(model.onnx_model, await features(model, images, include))

    async def StreamFeatures(  # type: ignore[override]  # the stubs know only generators; gRPC takes who writes as well
        self, request_iterator: AsyncIterator[pb.StreamFeaturesRequest], context: Context
    ) -> None:
        """Answer each chunk with the features of its images."""

        async def begin(first: pb.StreamFeaturesRequest) -> FeaturesOfChunk:
            model = await self._model(first.model, blocking=True)
            include = converters.include_from(first.include)
            return lambda request: self._features_of_chunk(model, include, request, first)

        stream = Stream(aiter(request_iterator), begin, context.write)
        self._streams.add(stream)
        try:
            await stream.run()
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
        images, errors = await self._backend.reader.read_each(request.images, model.manifest.image)
        if not len(images):
            return converters.stream_reply(None, errors)
        result = await features(model, images, include)
        return converters.stream_reply(converters.features_reply(model.onnx_model, result), errors)

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """Answer with the class of each image."""
        model = await self._model(request.model)
        images = await self._backend.reader.read(request.images, model.manifest.image)
        return converters.classify_reply(model.onnx_model, await classify(model, images))

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        """Answer with new images."""
        model = await self._model(request.model)
        png = converters.png_asked_for(request.format)
        most = self._backend.limits.max_images
        self._backend.check_reply(model.onnx_model, min(request.count, most))
        seed = request.seed if request.HasField("seed") else new_seed()
        generated = await generate(model, request.count, request.classes, seed, most)
        return converters.generate_reply(model.onnx_model, generated, await self._pack(generated.images, png))

    async def Reconstruct(self, request: pb.ReconstructRequest, context: Context) -> pb.ReconstructResponse:
        """Answer with reconstructions."""
        model = await self._model(request.model)
        png = converters.png_asked_for(request.format)
        images = await self._backend.reader.read(request.images, model.manifest.image)
        self._backend.check_reply(model.onnx_model, len(images))
        decoded = await reconstruct(model, images)
        return pb.ReconstructResponse(
            model=converters.model_version(model.onnx_model), images=await self._pack(decoded, png)
        )

    async def Traverse(self, request: pb.TraverseRequest, context: Context) -> pb.TraverseResponse:
        """Answer with images in which one dimension or class changes."""
        model = await self._model(request.model)
        png = converters.png_asked_for(request.format)
        along = grids.along_from(request)
        base: Base
        if request.WhichOneof("base") == "prior":
            base = grids.prior_base_from(request.prior, new_seed())
        else:
            base = await self._backend.reader.read(request.images, model.manifest.image)
        traversal = await traverse(model, base, along, self._backend.max_reply(model.onnx_model))
        packed = await self._pack(grids.flat(traversal.images), png)
        return grids.traverse_reply(model.onnx_model, traversal, packed)

    async def TransferAttributes(
        self, request: pb.TransferAttributesRequest, context: Context
    ) -> pb.TransferAttributesResponse:
        """Answer with images that join the z of some with the u of others."""
        model = await self._model(request.model)
        png, pairs = converters.png_asked_for(request.format), grids.pairs_asked_for(request.layout)
        spec = model.manifest.image
        style: Style
        if request.WhichOneof("style") == "style_classes":
            style = grids.style_classes_from(request)
        else:
            images = await self._backend.reader.read(request.style_images, spec)
            style = StyleImages(images=images, factors=tuple(request.factors))
        content = await self._backend.reader.read(request.content, spec)
        limit = self._backend.max_reply(model.onnx_model)
        transferred = await transfer(model, content, style, pairs=pairs, max_images=limit)
        packed = await self._pack(grids.flat(transferred.images), png)
        return pb.TransferAttributesResponse(
            model=converters.model_version(model.onnx_model), grid=grids.grid_message(transferred.images, packed)
        )

    async def _model(self, selector: pb.ModelSelector, *, blocking: bool = False) -> BatchedModel:
        return await self._backend.model(selector.name, selector.version, blocking=blocking)

    async def _pack(self, images: ImageArray, png: bool) -> Images:
        """Pack images for a reply; files are written in a thread."""
        if not png:
            return converters.images_message(images, png)
        return await self._backend.in_thread(lambda: converters.images_message(images, png))
