"""How fast serving is, beside ONNX Runtime alone in the same run. `make bench` runs it; nothing else should be running.

The load comes from this process and shares the processors with the server, as it would on one machine.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np

from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import Images, PackedImages
from serving.cpus import available_cpus
from serving.errors import ServingError
from serving.inference import extract_features
from serving.repository import load_model
from serving.runtime import Runtime

SECONDS = 5.0
"""How long each load lasts."""
LOADS = ((64, 1), (64, 4), (64, 8), (1, 1), (1, 32))
"""Images a request, and requests under way at a time."""


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
@click.option("--models", type=click.Path(path_type=Path), default=Path("demo/models"), show_default=True)
@click.option("--name", default="mnist", show_default=True, help="Model of that folder.")
def main(output: Path, models: Path, name: str) -> None:
    """Measure ExtractFeatures of a real server on a model that `make demo` or `make export` left."""
    try:
        runtime = load_model(models / name)
    except ServingError as error:
        raise click.ClickException(f"{error}; 'make demo' leaves one in demo/models") from error
    alone = _onnxruntime_alone(runtime)
    click.echo(f"ONNX Runtime alone, 64 images a run: {alone:,.0f} images/s")
    result: dict[str, Any] = {"cpus": available_cpus(), "ort_images_per_second": round(alone, 1)}
    with _server(models) as address:
        for images, concurrency in LOADS:
            row = asyncio.run(_load(address, runtime, images, concurrency))
            row["share_of_ort"] = round(row["images_per_second"] / alone, 3)
            result[f"features_{images}_concurrent_{concurrency}"] = row
            click.echo(f"{images} images a request, {concurrency} at a time: {json.dumps(row)}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _pixels(runtime: Runtime, count: int) -> np.ndarray:
    spec = runtime.manifest.image
    shape = (count, spec.height, spec.width, spec.channels)
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def _onnxruntime_alone(runtime: Runtime) -> float:
    """Return images a second of the encoder on batches of 64, all threads, without a server."""
    pixels = _pixels(runtime, 64)
    for _ in range(20):
        extract_features(runtime, pixels)
    runs, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        extract_features(runtime, pixels)
        runs += 1
    return 64 * runs / (time.perf_counter() - started)


@contextmanager
def _server(models: Path) -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "partedvae",
        "serve",
        str(models),
        "--address",
        "127.0.0.1:0",
        "--log-level",
        "error",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


async def _load(address: str, runtime: Runtime, images: int, concurrency: int) -> dict[str, float]:
    """Keep `concurrency` requests under way for a while; return rates and latencies."""
    pixels = _pixels(runtime, images)
    message = Images(packed=PackedImages(data=pixels.tobytes(), shape=pixels.shape))
    request = pb.ExtractFeaturesRequest(model=pb.ModelSelector(name=runtime.name), images=message)
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = PartedVAEServiceStub(channel)
        for _ in range(20):
            await stub.ExtractFeatures(request)
        started = time.perf_counter()

        async def caller() -> None:
            while (sent := time.perf_counter()) - started < SECONDS:
                await stub.ExtractFeatures(request)
                latencies.append(time.perf_counter() - sent)

        await asyncio.gather(*(caller() for _ in range(concurrency)))
        seconds = time.perf_counter() - started
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return {
        "requests_per_second": round(len(latencies) / seconds, 1),
        "images_per_second": round(images * len(latencies) / seconds, 1),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
    }


if __name__ == "__main__":
    main()
