"""A loaded model: the ONNX Runtime sessions of its encoder, decoder and scorer, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from partedvae.common.cpus import available_cpus
from partedvae.results import FloatArray, ImageArray
from partedvae.serving.bundle import (
    DECODER_INPUTS,
    DECODER_OUTPUT,
    ENCODER_INPUT,
    SCORER_FILE,
    SCORER_INPUT,
    SCORER_OUTPUTS,
    Z_LOGVAR,
    Z_MEAN,
    Bundle,
    factor_output,
)
from partedvae.serving.errors import BundleError
from partedvae.serving.onnx.buffers import BUCKETS, TensorSpec
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.precision import Precision, device_for, encoder_for
from partedvae.serving.onnx.sessions import Graph, Session, open_session
from partedvae.v1.manifest_pb2 import Manifest

MAX_ROWS = BUCKETS[-1]
"""Largest batch of one session run; larger ones are run in slices, which bounds the memory for activations."""


class OnnxModel:
    """A loaded model. Can be used from several threads: ONNX Runtime's `run` is thread-safe, and releases the GIL."""

    def __init__(
        self,
        *,
        name: str,
        version: int,
        manifest: Manifest,
        encoder: Session,
        decoder: Session,
        scorer: Session | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Create a model from sessions that were checked against the manifest; `load` is the usual way."""
        self.name = name
        self.version = version
        self.manifest = manifest
        self.precision: Precision = precision
        """Numbers that the encoder computes with."""
        self._encoder = encoder
        self._decoder = decoder
        self._scorer = scorer

    @classmethod
    def load(
        cls, bundle: Bundle, device: Device = "auto", threads: int | None = None, precision: Precision = "fp32"
    ) -> Self:
        """Open the graphs of a bundle. Each is read once, and what was read is verified and opened.

        Args:
            bundle: from `partedvae.serving.bundle.load_bundle` or `read_bundle`.
            device: "cpu", "cuda", "tensorrt", or "auto", which uses CUDA if it is available and the CPU otherwise.
            threads: threads per run on the CPU; None uses as many as the affinity and the cgroup allow.
            precision: "fp32", or "int8", which runs the encoder of 8-bit integers, on the CPU. Decoder and scorer
                compute with 32-bit floats.

        Raises:
            BundleError: a file is damaged, not an ONNX graph, or not the one that the manifest describes; or the bundle
                has no encoder of that precision.
            DeviceError: the requested device is not available, or cannot compute with that precision.
            OSError: a file cannot be read.
        """
        device = device_for(precision, device)
        encoder_path = encoder_for(precision, bundle)
        threads = threads or available_cpus()
        manifest = bundle.manifest
        image = _image_tensor(manifest)
        dims = (sum(factor.u_dim for factor in manifest.factors), manifest.z_dim)
        latents: dict[str, TensorSpec] = {
            name: ("tensor(float)", [dim]) for name, dim in zip(DECODER_INPUTS, dims, strict=True)
        }
        scores: dict[str, TensorSpec] = {name: ("tensor(float)", []) for name in SCORER_OUTPUTS}

        def opened(path: Path, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]) -> Session:
            return open_session(Graph(path, bundle.read_graph(path)), device, threads, inputs, outputs)

        encoder = opened(encoder_path, {ENCODER_INPUT: image}, _encoder_tensors(manifest))
        decoder = opened(bundle.decoder_path, latents, {DECODER_OUTPUT: image})
        scorer = opened(bundle.scorer_path, {SCORER_INPUT: image}, scores) if bundle.scorer_path else None
        return cls(
            name=bundle.name,
            version=bundle.version,
            manifest=manifest,
            encoder=encoder,
            decoder=decoder,
            scorer=scorer,
            precision=precision,
        )

    @property
    def provider(self) -> str:
        """ONNX Runtime's execution provider in use, for example "CPUExecutionProvider"."""
        return self._encoder.provider

    @cached_property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        image = self.manifest.image
        return image.height * image.width * image.channels

    @cached_property
    def latent_dims(self) -> int:
        """Dimensions of z and of all u together."""
        return self.manifest.z_dim + sum(factor.u_dim for factor in self.manifest.factors)

    @cached_property
    def feature_bytes(self) -> int:
        """Bytes of everything that encoder and scorer compute of one image."""
        factors = sum(len(factor.class_names) + 2 * factor.u_dim for factor in self.manifest.factors)
        return np.dtype(np.float32).itemsize * (factors + 2 * self.manifest.z_dim + len(SCORER_OUTPUTS))

    def warm_up(self) -> None:
        """Run every graph in each way that is slow the first time.

        Raises:
            BundleError: a graph was loaded, but fails when it is run.
        """
        try:
            for session in (self._encoder, self._decoder, self._scorer):
                if session is not None:
                    session.warm_up()
        except Exception as error:  # ONNX Runtime's exceptions have no common base.
            raise BundleError(
                f"version {self.version} of model {self.name!r} was loaded, but fails when it is run: {error}; export "
                "the run again"
            ) from error

    @property
    def has_scores(self) -> bool:
        """Whether the bundle has a scorer, which `score` needs."""
        return self._scorer is not None

    @property
    def has_familiarity(self) -> bool:
        """Whether the bundle has a scorer, and knows the range of its scores."""
        return self.has_scores and self.manifest.HasField("familiar_negative_elbo")

    def check_scores(self) -> None:
        """Check that the bundle has a scorer.

        Raises:
            BundleError: it has none.
        """
        if not self.has_scores:
            raise BundleError(
                f"version {self.version} of model {self.name!r} has no {SCORER_FILE}, which reconstruction_error and "
                "negative_elbo need; export the run again"
            )

    def encode(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        """Run the encoder.

        Args:
            images: uint8 [images, height, width, channels] at the model's size.
            outputs: names of the outputs to fetch, see `partedvae.serving.bundle.encoder_outputs`.

        Returns:
            float32 [images, …] by name.
        """
        return _run_in_slices(self._encoder, ENCODER_INPUT, images, outputs)

    def score(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        """Run the scorer.

        Args:
            images: as for `encode`.
            outputs: some of `partedvae.serving.bundle.SCORER_OUTPUTS`.

        Returns:
            float32 [images] by name.

        Raises:
            BundleError: the bundle has no scorer.
        """
        self.check_scores()
        assert self._scorer is not None
        return _run_in_slices(self._scorer, SCORER_INPUT, images, outputs)

    def decode(self, u: FloatArray, z: FloatArray) -> ImageArray:
        """Run the decoder on float32 u [images, sum of u_dim] and z [images, z_dim]; return uint8 images."""
        latents = dict(zip(DECODER_INPUTS, (u, z), strict=True))
        parts = [
            self._decoder.run(
                [DECODER_OUTPUT], {name: rows[start : start + MAX_ROWS] for name, rows in latents.items()}
            )[0]
            for start in range(0, len(u), MAX_ROWS)
        ]
        pixels: ImageArray = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return pixels


def _run_in_slices(session: Session, name: str, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
    parts = [
        session.run(outputs, {name: images[start : start + MAX_ROWS]}) for start in range(0, len(images), MAX_ROWS)
    ]
    return {output: _joined([part[k] for part in parts]) for k, output in enumerate(outputs)}


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
