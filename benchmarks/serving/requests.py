"""The measured requests: extraction of features, and generation of images."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np

from benchmarks.serving.load import Target
from partedvae.serving.bundle import factor_output
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.manifest_pb2 import Manifest
from partedvae.v1.tensors_pb2 import Images, PackedImages

SERVICE = "/partedvae.v1.PartedVAEService/"
DEFAULT_OUTPUTS = ("probs", "u_mean")
"""Outputs of each factor that a request without `include` returns."""
OPTIONS = (("grpc.max_receive_message_length", -1),)


def pixels(manifest: Manifest, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return random images, uint8 [count, height, width, channels]."""
    shape = (count, manifest.image.height, manifest.image.width, manifest.image.channels)
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def feature_names(manifest: Manifest) -> list[str]:
    """Return the encoder's outputs that `features_target` requests."""
    return [factor_output(factor.name, kind) for factor in manifest.factors for kind in DEFAULT_OUTPUTS]


def features_target(address: str, model: str, manifest: Manifest, images: int) -> Target:
    """Return a request for the class-related features of a number of images."""
    array = pixels(manifest, images)
    message = Images(packed=PackedImages(data=array.tobytes(), shape=array.shape))
    request = pb.ExtractFeaturesRequest(model=pb.ModelSelector(name=model), images=message)
    return grpc_target(address, SERVICE + "ExtractFeatures", request.SerializeToString(), images)


def generate_target(address: str, model: str, images: int) -> Target:
    """Return a request for a number of generated images."""
    request = pb.GenerateRequest(model=pb.ModelSelector(name=model), count=images, seed=0)
    return grpc_target(address, SERVICE + "Generate", request.SerializeToString(), images)


def grpc_target(address: str, path: str, message: bytes, images: int) -> Target:
    """Send a request once, to find the length of a successful response, and return it as a target.

    Raises:
        grpc.RpcError: the request failed.
    """
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        response = call(message, timeout=60)
    return Target(address=address, path=path, message=message, response_bytes=len(response), images=images)
