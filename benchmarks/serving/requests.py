"""The requests that are measured: features of images, and new images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.serving.load import Target
from benchmarks.serving.onnxruntime_alone import BATCH, rows_per_second
from partedvae.serving.bundle import (
    DECODER_FILE,
    DECODER_INPUTS,
    DECODER_OUTPUT,
    ENCODER_FILE,
    ENCODER_INPUT,
    factor_output,
)
from partedvae.serving.operations.features import CLASS_RELATED
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.manifest_pb2 import Manifest
from partedvae.v1.tensors_pb2 import Images, PackedImages

SERVICE = "/partedvae.v1.PartedVAEService/"
OPTIONS = (("grpc.max_receive_message_length", -1),)


def pixels(manifest: Manifest, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return noise, uint8 [count, height, width, channels]."""
    shape = (count, manifest.image.height, manifest.image.width, manifest.image.channels)
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def features_target(address: str, model: str, manifest: Manifest, images: int) -> Target:
    """Ask for the class-related features of so many images."""
    array = pixels(manifest, images)
    message = Images(packed=PackedImages(data=array.tobytes(), shape=array.shape))
    request = pb.ExtractFeaturesRequest(model=pb.ModelSelector(name=model), images=message)
    return grpc_target(address, SERVICE + "ExtractFeatures", request.SerializeToString(), images)


def generate_target(address: str, model: str, images: int) -> Target:
    """Ask for so many new images."""
    request = pb.GenerateRequest(model=pb.ModelSelector(name=model), count=images, seed=0)
    return grpc_target(address, SERVICE + "Generate", request.SerializeToString(), images)


def grpc_target(address: str, path: str, message: bytes, images: int) -> Target:
    """Ask once, to know how long a right answer is.

    Raises:
        grpc.RpcError: the request failed.
    """
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        answer = call(message, timeout=60)
    return Target(address=address, path=path, message=message, answer_bytes=len(answer), images=images)


def encoder_alone(folder: Path, manifest: Manifest, seconds: float) -> float:
    """Return images a second of the encoder without a server, for the same outputs."""
    outputs = [factor_output(factor.name, kind) for factor in manifest.factors for kind in CLASS_RELATED]
    return rows_per_second(folder / ENCODER_FILE, outputs, {ENCODER_INPUT: pixels(manifest, BATCH)}, seconds)


def decoder_alone(folder: Path, manifest: Manifest, seconds: float) -> float:
    """Return images a second of the decoder without a server."""
    dims = (sum(factor.u_dim for factor in manifest.factors), manifest.z_dim)
    random = np.random.default_rng(0)
    feed = {
        name: random.standard_normal((BATCH, dim), dtype=np.float32)
        for name, dim in zip(DECODER_INPUTS, dims, strict=True)
    }
    return rows_per_second(folder / DECODER_FILE, [DECODER_OUTPUT], feed, seconds)
