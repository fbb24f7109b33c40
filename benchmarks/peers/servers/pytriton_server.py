"""pytriton: Triton's front end, one Python process with the encoder per processor, dynamic batching by rows."""

from __future__ import annotations

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.servers.common import DELAY_SECONDS, INPUT, MAX_ROWS, MODEL, Encoder, Settings


def main() -> None:
    """Serve until the process receives a signal."""
    settings = Settings.from_environment()
    http_port, metrics_port = settings.other_ports[:2]
    config = TritonConfig(http_port=http_port, grpc_port=settings.port, metrics_port=metrics_port)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=[batch(Encoder(settings, threads=1)) for _ in range(settings.cpus)],
            inputs=[Tensor(name=INPUT, dtype=np.uint8, shape=settings.image)],
            outputs=[Tensor(name=name, dtype=np.float32, shape=(dim,)) for name, dim in settings.outputs.items()],
            config=ModelConfig(
                batching=True,
                max_batch_size=MAX_ROWS,
                batcher=DynamicBatcher(max_queue_delay_microseconds=round(1e6 * DELAY_SECONDS)),
            ),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main()
