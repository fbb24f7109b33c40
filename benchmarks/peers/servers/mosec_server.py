"""mosec: pixels as request body, float32 as response body; one worker process per processor, batches of requests."""

from __future__ import annotations

from typing import Any

import numpy as np
from mosec import Server, Worker

from benchmarks.peers.servers.common import DELAY_SECONDS, MAX_REQUESTS, Encoder, Settings

Array = np.ndarray[Any, Any]


class EncoderWorker(Worker):
    """Worker process."""

    def __init__(self) -> None:
        """Create the session."""
        super().__init__()
        self.settings = Settings.from_environment()
        self.encode = Encoder(self.settings, threads=1)

    def deserialize(self, data: bytes) -> Array:
        """Return the images of a request body."""
        return np.frombuffer(data, np.uint8).reshape(-1, *self.settings.image)

    def serialize(self, data: Array) -> bytes:
        """Return the response body: the outputs of each image, concatenated."""
        return data.tobytes()

    def forward(self, data: list[Array]) -> list[Array]:
        """Run a batch."""
        outputs = np.concatenate(list(self.encode(np.concatenate(data)).values()), axis=1)
        return np.split(outputs, np.cumsum([len(images) for images in data])[:-1])


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        EncoderWorker,
        num=Settings.from_environment().cpus,
        max_batch_size=MAX_REQUESTS,
        max_wait_time=round(1000 * DELAY_SECONDS),
    )
    server.run()
