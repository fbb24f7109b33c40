"""MLServer: a custom runtime with adaptive batching; configured by model-settings.json in this folder."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.servers.common import Encoder, Settings


class EncoderModel(MLModel):
    """The encoder as an MLServer model."""

    async def load(self) -> bool:
        """Create the session."""
        self.encode = Encoder(Settings.from_environment(), threads=1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run a batch."""
        arrays = self.encode(NumpyCodec.decode_input(payload.inputs[0]))
        outputs = [NumpyCodec.encode_output(name, array) for name, array in arrays.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)
