"""The runtime of one model: its two ONNX sessions and its manifest. Numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from partedvae.results import FloatArray, ImageArray
from partedvae.v1.manifest_pb2 import Manifest
from serving.bundle import DECODER_INPUTS, DECODER_OUTPUT, ENCODER_INPUT, Z_LOGVAR, Z_MEAN, Bundle, factor_output
from serving.cpus import available_cpus
from serving.errors import BundleError
from serving.sessions import Device, TensorSpec, check_graph, open_session

MAX_ROWS = 256
"""Rows of one session run: larger batches are run in slices, so that the memory for activations is bounded."""


class Runtime:
    """A loaded model. Safe to use from many threads at once: ONNX Runtime's `run` is, and releases the GIL."""

    def __init__(
        self,
        *,
        name: str,
        version: int,
        manifest: Manifest,
        encoder: ort.InferenceSession,
        decoder: ort.InferenceSession,
    ) -> None:
        """Take sessions that were checked against the manifest; see `load`."""
        self.name = name
        self.version = version
        self.manifest = manifest
        self._encoder = encoder
        self._decoder = decoder

    @classmethod
    def load(cls, bundle: Bundle, device: Device = "auto", threads: int | None = None) -> Runtime:
        """Open a verified bundle.

        Args:
            bundle: from `serving.bundle.load_bundle`.
            device: "cpu"; "cuda", which fails where CUDA is not to be had; or "auto", which then takes the CPU.
            threads: threads of one run on the CPU; None takes what the affinity and the cgroup allow.

        Raises:
            BundleError: a file is no graph, or not the graph that the manifest describes.
            DeviceError: CUDA was asked for and is not to be had.
        """
        threads = threads or available_cpus()
        manifest = bundle.manifest
        _check_factors(bundle.folder, manifest)
        encoder = open_session(bundle.encoder_path, device, threads)
        check_graph(encoder, bundle.encoder_path, {ENCODER_INPUT: _image_tensor(manifest)}, _encoder_tensors(manifest))
        decoder = open_session(bundle.decoder_path, device, threads)
        dims = (sum(factor.u_dim for factor in manifest.factors), manifest.z_dim)
        latents: dict[str, TensorSpec] = {
            name: ("tensor(float)", [dim]) for name, dim in zip(DECODER_INPUTS, dims, strict=True)
        }
        check_graph(decoder, bundle.decoder_path, latents, {DECODER_OUTPUT: _image_tensor(manifest)})
        return cls(name=bundle.name, version=bundle.version, manifest=manifest, encoder=encoder, decoder=decoder)

    @property
    def provider(self) -> str:
        """ONNX Runtime's execution provider in use, "CPUExecutionProvider" or "CUDAExecutionProvider"."""
        return str(self._encoder.get_providers()[0])

    def encode(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        """Run the encoder.

        Args:
            images: uint8 [images, height, width, channels] at the model's size.
            outputs: names of the outputs to fetch, see `serving.bundle.encoder_outputs`.

        Returns:
            float32 [images, …] by name.
        """
        parts = [
            self._encoder.run(list(outputs), {ENCODER_INPUT: images[start : start + MAX_ROWS]})
            for start in range(0, len(images), MAX_ROWS)
        ]
        return {name: _joined([part[k] for part in parts]) for k, name in enumerate(outputs)}

    def decode(self, u: FloatArray, z: FloatArray) -> ImageArray:
        """Run the decoder on float32 u [images, sum of u_dim], z [images, z_dim]; return images like `encode` takes."""
        latents = dict(zip(DECODER_INPUTS, (u, z), strict=True))
        parts = [
            self._decoder.run(
                [DECODER_OUTPUT], {name: rows[start : start + MAX_ROWS] for name, rows in latents.items()}
            )[0]
            for start in range(0, len(u), MAX_ROWS)
        ]
        pixels: ImageArray = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return pixels


def _joined(parts: Sequence[FloatArray]) -> FloatArray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _image_tensor(manifest: Manifest) -> TensorSpec:
    return "tensor(uint8)", [manifest.image.height, manifest.image.width, manifest.image.channels]


def _encoder_tensors(manifest: Manifest) -> dict[str, TensorSpec]:
    dims = {Z_MEAN: manifest.z_dim, Z_LOGVAR: manifest.z_dim}
    for factor in manifest.factors:
        dims[factor_output(factor.name, "probs")] = len(factor.class_names)
        dims[factor_output(factor.name, "u_mean")] = factor.u_dim
        dims[factor_output(factor.name, "u_logvar")] = factor.u_dim
    return {name: ("tensor(float)", [dim]) for name, dim in dims.items()}


def _check_factors(folder: Path, manifest: Manifest) -> None:
    """Check that every prior has the size that its factor's classes and u_dim ask for: sampling relies on it."""
    for factor in manifest.factors:
        classes = len(factor.class_names)
        expected = (classes, classes * factor.u_dim, classes * factor.u_dim)
        found = (len(factor.prior_probs), len(factor.prior_means), len(factor.prior_logvars))
        if classes == 0 or found != expected:
            raise BundleError(
                f"{folder}: factor {factor.name!r} has {classes} classes and {found} values of prior_probs, "
                f"prior_means and prior_logvars, expected {expected}; export the run again"
            )
