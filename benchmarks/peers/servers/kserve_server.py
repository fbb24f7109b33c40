"""KServe's Python SDK over gRPC. It has no batching: in a cluster, the agent sidecar does that."""

from __future__ import annotations

from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

from benchmarks.peers.servers.common import MODEL, Encoder, Settings


class EncoderModel(Model):
    """The encoder as a KServe model."""

    def __init__(self, settings: Settings) -> None:
        """Create the session."""
        super().__init__(MODEL)
        self.encode = Encoder(settings, threads=settings.cpus)
        self.ready = True

    def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        """Run one request."""
        arrays = self.encode(payload.inputs[0].as_numpy())
        outputs = []
        for name, array in arrays.items():
            output = InferOutput(name=name, shape=list(array.shape), datatype="FP32")
            output.set_data_from_numpy(array, binary_data=True)
            outputs.append(output)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    settings = Settings.from_environment()
    server = ModelServer(http_port=settings.other_ports[0], grpc_port=settings.port, enable_docs_url=False)
    server.start([EncoderModel(settings)])
