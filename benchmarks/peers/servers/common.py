"""Settings of all peers, and the ONNX Runtime session that all of them run. Needs only NumPy and onnxruntime."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort  # the variable must be set before

VARIABLE = "PEER_SETTINGS"
MODEL = "encoder"
"""Name of the model on all peers."""
INPUT = "images"
MAX_ROWS = 256
"""Maximum batch size of servers that count rows."""
MAX_REQUESTS = 32
"""Maximum batch size of servers that count requests."""
DELAY_SECONDS = 0.001
"""Maximum queue delay of a batch, for servers with such an option."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a peer, passed as JSON in an environment variable."""

    graph: str
    """Path of encoder.onnx."""
    image: tuple[int, ...]
    """Height, width, channels."""
    outputs: dict[str, int]
    """Outputs to fetch, with their dimensions."""
    cpus: int
    port: int
    """Port that is measured."""
    other_ports: tuple[int, ...]
    """Unused ports for the other endpoints of a peer."""

    def to_environment(self) -> dict[str, str]:
        """Return the environment variables of a peer's process."""
        return {**os.environ, VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Settings:
        """Return the settings of this process."""
        values = json.loads(os.environ[VARIABLE])
        return cls(**values | {name: tuple(values[name]) for name in ("image", "other_ports")})


class Encoder:
    """The encoder, as a function of arrays."""

    def __init__(self, settings: Settings, threads: int) -> None:
        """Create the session.

        Args:
            settings: path and outputs of the graph.
            threads: intra-op threads.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # As in our own server: spinning threads take processor time from the transport.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(settings.graph, options, providers=["CPUExecutionProvider"])
        self._outputs = list(settings.outputs)

    def __call__(self, images: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, np.ndarray[Any, Any]]:
        """Run uint8 [images, height, width, channels]; return float32 [images, …] by name."""
        return dict(zip(self._outputs, self._session.run(self._outputs, {INPUT: images}), strict=True))
