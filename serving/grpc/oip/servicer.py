"""The Open Inference Protocol service: each RPC converts its tensors, runs a graph, and converts the result."""
# The RPCs have the names of the protocol.
# ruff: noqa: N802

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from partedvae.common.fit import DEFAULT_FIT
from partedvae.image_fit import fit_of
from partedvae.oip import inference_pb2 as oip
from partedvae.oip.inference_pb2_grpc import GRPCInferenceServiceServicer
from partedvae.results import ImageArray
from partedvae.serving.batching.model import BatchedModel
from partedvae.serving.bundle import DECODER_INPUTS, DECODER_OUTPUT, ENCODER_INPUT
from partedvae.serving.errors import ModelNotFoundError
from partedvae.serving.grpc.method import request_size
from partedvae.serving.grpc.oip.models import GRAPHS, Graph, Tensor, is_ready, signature_of, split_name, version_from
from partedvae.serving.grpc.oip.tensors import Values, has_many_values, output_tensors, read_inputs
from partedvae.serving.grpc.request_limits import LARGE
from partedvae.serving.grpc.service_context import ServiceContext

if TYPE_CHECKING:
    from partedvae.oip.inference_pb2_grpc import _ServicerContext as Context

PLATFORM = "onnxruntime_onnx"
"""Name that other servers of the protocol use for ONNX graphs run by ONNX Runtime."""
EXTENSIONS = ("model_repository",)
"""Supported protocol extensions: RepositoryIndex."""


_version = cache(partial(version, "partedvae"))  # which reads files


class OpenInferenceServicer(GRPCInferenceServiceServicer):
    """The service over a repository of models."""

    def __init__(self, service_context: ServiceContext, ready: Callable[[], bool]) -> None:
        """Create the service.

        Args:
            service_context: state shared with the other services.
            ready: reports whether the server is ready.
        """
        self._shared = service_context
        self._ready = ready

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Context) -> oip.ServerLiveResponse:
        """Return true: a server that replies is live."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Context) -> oip.ServerReadyResponse:
        """Return the status that the health service reports."""
        return oip.ServerReadyResponse(ready=self._ready())

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Context) -> oip.ModelReadyResponse:
        """Return whether a model is ready; false for broken and unknown models, as other servers of the protocol do."""
        statuses = self._shared.repository.statuses()
        try:
            name, _ = split_name(request.name, self._shared.repository.names)
        except ModelNotFoundError:
            return oip.ModelReadyResponse(ready=False)
        ready = self._ready() and is_ready(statuses, name, version_from(request.version))
        return oip.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: oip.ServerMetadataRequest, context: Context) -> oip.ServerMetadataResponse:
        """Return name and version of the server."""
        return oip.ServerMetadataResponse(name="partedvae", version=_version(), extensions=EXTENSIONS)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: Context) -> oip.ModelMetadataResponse:
        """Return the inputs and outputs of a graph."""
        model, graph = await self._model(request.name, request.version)
        tensors = signature_of(model.onnx_model, graph)
        versions = [s.version for s in self._shared.repository.statuses() if s.name == model.name and s.ready]
        properties = {"execution_provider": model.onnx_model.provider}
        if graph == "encoder":
            properties["precision"] = model.onnx_model.precision
            properties["fit"] = fit_of(model.manifest.image) or DEFAULT_FIT
        return oip.ModelMetadataResponse(
            name=request.name,
            versions=[str(number) for number in versions],
            platform=PLATFORM,
            inputs=[_metadata(tensor) for tensor in tensors.inputs],
            outputs=[_metadata(tensor) for tensor in tensors.outputs],
            properties=properties,
        )

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Context) -> oip.ModelInferResponse:
        """Run a graph; its rows share batches with those of all other calls."""
        model, graph = await self._model(request.model_name, request.model_version)
        tensors = signature_of(model.onnx_model, graph)
        wanted = tensors.requested([output.name for output in request.outputs])
        limits = self._shared.limits
        if has_many_values(request) or request_size() >= LARGE:
            inputs = await self._shared.in_thread(lambda: read_inputs(request, tensors, limits))
        else:
            inputs = read_inputs(request, tensors, limits)
        run = self._encode if graph == "encoder" else self._decode
        arrays = await run(model, inputs, [tensor.name for tensor in wanted])
        if sum(array.nbytes for array in arrays.values()) < LARGE:
            described, contents = output_tensors(wanted, arrays)
        else:
            described, contents = await self._shared.in_thread(lambda: output_tensors(wanted, arrays))
        return oip.ModelInferResponse(
            model_name=request.model_name,
            model_version=str(model.version),
            id=request.id,
            outputs=described,
            raw_output_contents=contents,
        )

    async def RepositoryIndex(
        self, request: oip.RepositoryIndexRequest, context: Context
    ) -> oip.RepositoryIndexResponse:
        """Return all versions of all models, each as its two graphs."""
        return oip.RepositoryIndexResponse(
            models=[
                oip.RepositoryIndexResponse.ModelIndex(
                    name=f"{status.name}.{graph}",
                    version=str(status.version),
                    state="READY" if status.ready else "UNAVAILABLE",
                    reason=status.reason,
                )
                for status in self._shared.repository.statuses()
                for graph in GRAPHS
                if status.ready or not request.ready
            ]
        )

    async def _model(self, name: str, version_text: str) -> tuple[BatchedModel, Graph]:
        number = version_from(version_text)
        model, graph = split_name(name, self._shared.repository.names)
        return await self._shared.model(model, number), graph

    async def _encode(
        self, model: BatchedModel, inputs: dict[str, Values], outputs: list[str]
    ) -> dict[str, NDArray[Any]]:
        sent = inputs[ENCODER_INPUT]
        images: ImageArray
        if isinstance(sent, list):
            images = await self._shared.reader.read_files(sent, model, sum(map(len, sent)))
        else:
            self._shared.reserve_features(model, len(sent))
            images = sent
        return cast("dict[str, NDArray[Any]]", await model.encode(images, outputs))

    async def _decode(
        self, model: BatchedModel, inputs: dict[str, Values], outputs: list[str]
    ) -> dict[str, NDArray[Any]]:
        u, z = (np.asarray(inputs[name]) for name in DECODER_INPUTS)
        self._shared.check_reply(model.onnx_model, len(u))
        model.reserve_images(len(u))
        return {DECODER_OUTPUT: await model.decode(u, z)}


def _metadata(tensor: Tensor) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=[-1, *tensor.dims]
    )
