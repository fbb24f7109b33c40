"""The Open Inference Protocol's service over the same models: each RPC converts, runs a graph, converts back."""
# The RPCs have the names of the protocol.
# ruff: noqa: N802

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from partedvae.oip import inference_pb2 as oip
from partedvae.oip.inference_pb2_grpc import GRPCInferenceServiceServicer
from partedvae.results import ImageArray
from partedvae.serving.batching.model import BatchedModel
from partedvae.serving.bundle import DECODER_INPUTS, DECODER_OUTPUT, ENCODER_INPUT
from partedvae.serving.errors import ModelNotFoundError
from partedvae.serving.grpc.oip.models import GRAPHS, Graph, Tensor, is_ready, signature, split_name, version_number
from partedvae.serving.grpc.oip.tensors import Values, output_tensors, read_inputs
from partedvae.serving.grpc.service_context import Backend

if TYPE_CHECKING:
    from partedvae.oip.inference_pb2_grpc import _ServicerContext as Context

PLATFORM = "onnxruntime_onnx"
"""What other servers of the protocol call ONNX graphs run by ONNX Runtime."""
EXTENSIONS = ("model_repository",)
"""Beyond the protocol's core: RepositoryIndex."""


class OpenInferenceServicer(GRPCInferenceServiceServicer):
    """The service over a repository of models."""

    def __init__(self, backend: Backend, ready: Callable[[], bool]) -> None:
        """Take models and limits, and what tells of readiness."""
        self._backend = backend
        self._ready = ready

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Context) -> oip.ServerLiveResponse:
        """Answer, which is all that is asked."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Context) -> oip.ServerReadyResponse:
        """Answer with what the health service says."""
        return oip.ServerReadyResponse(ready=self._ready())

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Context) -> oip.ModelReadyResponse:
        """Answer false for models that are broken or not there, as other servers of the protocol do."""
        statuses = self._backend.repository.statuses()
        try:
            name, _ = split_name(request.name, [status.name for status in statuses])
        except ModelNotFoundError:
            return oip.ModelReadyResponse(ready=False)
        ready = self._ready() and is_ready(statuses, name, version_number(request.version))
        return oip.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: oip.ServerMetadataRequest, context: Context) -> oip.ServerMetadataResponse:
        """Answer with name and version."""
        return oip.ServerMetadataResponse(name="partedvae", version=version("partedvae"), extensions=EXTENSIONS)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: Context) -> oip.ModelMetadataResponse:
        """Answer with a graph's inputs and outputs."""
        model, graph = await self._model(request.name, request.version)
        runtime = model.onnx_model
        tensors = signature(runtime.manifest, graph)
        versions = [s.version for s in self._backend.repository.statuses() if s.name == runtime.name and s.ready]
        return oip.ModelMetadataResponse(
            name=request.name,
            versions=[str(number) for number in versions],
            platform=PLATFORM,
            inputs=[_metadata(tensor) for tensor in tensors.inputs],
            outputs=[_metadata(tensor) for tensor in tensors.outputs],
            properties={"execution_provider": runtime.provider},
        )

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Context) -> oip.ModelInferResponse:
        """Run a graph; its rows share batches with those of all other callers."""
        model, graph = await self._model(request.model_name, request.model_version)
        tensors = signature(model.manifest, graph)
        wanted = tensors.requested([output.name for output in request.outputs])
        inputs = read_inputs(request, tensors, self._backend.limits)
        run = self._encode if graph == "encoder" else self._decode
        described, contents = output_tensors(wanted, await run(model, inputs, [tensor.name for tensor in wanted]))
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
        """Answer with all versions of all models, each as its two graphs."""
        return oip.RepositoryIndexResponse(
            models=[
                oip.RepositoryIndexResponse.ModelIndex(
                    name=f"{status.name}.{graph}",
                    version=str(status.version),
                    state="READY" if status.ready else "UNAVAILABLE",
                    reason=status.reason,
                )
                for status in self._backend.repository.statuses()
                for graph in GRAPHS
                if status.ready or not request.ready
            ]
        )

    async def _model(self, name: str, version_text: str) -> tuple[BatchedModel, Graph]:
        number = version_number(version_text)
        model, graph = split_name(name, [status.name for status in self._backend.repository.statuses()])
        return await self._backend.model(model, number), graph

    async def _encode(
        self, model: BatchedModel, inputs: dict[str, Values], outputs: list[str]
    ) -> dict[str, NDArray[Any]]:
        sent = inputs[ENCODER_INPUT]
        spec = model.manifest.image
        images: ImageArray = await self._backend.reader.read_files(sent, spec) if isinstance(sent, list) else sent
        return cast("dict[str, NDArray[Any]]", await model.encode(images, outputs))

    async def _decode(
        self, model: BatchedModel, inputs: dict[str, Values], outputs: list[str]
    ) -> dict[str, NDArray[Any]]:
        u, z = (np.asarray(inputs[name]) for name in DECODER_INPUTS)
        self._backend.check_reply(model.onnx_model, len(u))
        return {DECODER_OUTPUT: await model.decode(u, z)}


def _metadata(tensor: Tensor) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=[-1, *tensor.dims]
    )
