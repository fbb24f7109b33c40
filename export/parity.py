"""Comparison of the exported graphs with PyTorch on real images, before a bundle is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partedvae.export.errors import REMEDY, ExportError
from partedvae.export.graphs import DecoderGraph, EncoderGraph, ScorerGraph, encoder_output_names
from partedvae.serving.bundle import (
    DECODER_FILE,
    DECODER_INPUTS,
    ENCODER_FILE,
    ENCODER_INPUT,
    SCORER_FILE,
    SCORER_INPUT,
    SCORER_OUTPUTS,
)
from partedvae.serving.onnx_runtime import ort
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.model.partedvae import PartedVAE

TOLERANCE = 1e-4
"""Maximum absolute difference of an encoder output."""
SCORE_TOLERANCE = 1e-4
"""Maximum difference of a score, relative to the score, or absolute if it is below one; scores are sums over all
pixels, hundreds of nats."""
PIXEL_TOLERANCE = 1
"""Maximum difference of a decoded pixel (0 to 255); a value halfway between two may be rounded either way."""
BATCH_SIZES = (1, 7, 64)
"""Batch sizes of the comparison, which verify that the batch dimension is dynamic."""


def check_parity(folder: Path, model: PartedVAE, config: TrainConfig, images: Tensor) -> float:
    """Compare the graphs in a folder with PyTorch; return the maximum absolute difference of an encoder output.

    Args:
        folder: folder with encoder.onnx, decoder.onnx and scorer.onnx.
        model: the exported model.
        config: its configuration.
        images: real images, uint8 [count, height, width, channels], at least as many as the largest batch size.

    Raises:
        ExportError: a difference is above its tolerance, or a most probable class differs.
    """
    encoder, decoder, scorer = (
        ort.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])
        for name in (ENCODER_FILE, DECODER_FILE, SCORER_FILE)
    )
    maximum = 0.0
    for batch in BATCH_SIZES:
        chosen = images[:batch]
        expected = _run_torch(EncoderGraph(model, config), chosen)
        actual = encoder.run(None, {ENCODER_INPUT: chosen.numpy()})
        maximum = max(maximum, _compare_encoder(encoder_output_names(config), actual, expected, batch))
        latents = _latents(config, expected)
        pixels = decoder.run(None, dict(zip(DECODER_INPUTS, (x.numpy() for x in latents), strict=True)))[0]
        _compare_pixels(pixels, _run_torch(DecoderGraph(model, config), *latents)[0], batch)
        scores = scorer.run(None, {SCORER_INPUT: chosen.numpy()})
        _compare_scores(scores, _run_torch(ScorerGraph(model, config), chosen), batch)
    return maximum


@torch.no_grad()
def _run_torch(graph: torch.nn.Module, *inputs: Tensor) -> list[NDArray[Any]]:
    outputs = graph.eval()(*inputs)
    return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def _latents(config: TrainConfig, encoded: Sequence[NDArray[Any]]) -> tuple[Tensor, Tensor]:
    """Return the decoder's inputs for encoded images: the means of u and z."""
    u_means = [torch.from_numpy(encoded[3 * k + 1]) for k in range(len(config.model.factors))]
    return torch.cat(u_means, dim=1), torch.from_numpy(encoded[-2])


def _compare_encoder(
    names: Sequence[str], actual: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], batch: int
) -> float:
    maximum = 0.0
    for name, from_onnx, from_torch in zip(names, actual, expected, strict=True):
        maximum = max(maximum, _compare(name, from_onnx, from_torch, batch, TOLERANCE))
        if name.endswith(".probs") and (from_onnx.argmax(axis=1) != from_torch.argmax(axis=1)).any():
            raise _mismatch(f"{name} has a different most probable class in ONNX at batch size {batch}")
    return maximum


def _compare_scores(actual: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], batch: int) -> None:
    for name, from_onnx, from_torch in zip(SCORER_OUTPUTS, actual, expected, strict=True):
        scale = np.maximum(1, np.abs(from_torch))
        _compare(name, from_onnx / scale, from_torch / scale, batch, SCORE_TOLERANCE)


def _compare(name: str, from_onnx: NDArray[Any], from_torch: NDArray[Any], batch: int, tolerance: float) -> float:
    """Return the maximum absolute difference of an output.

    Raises:
        ExportError: the shapes differ, or the difference is above the tolerance.
    """
    if from_onnx.shape != from_torch.shape:
        raise _mismatch(
            f"{name} has shape {from_onnx.shape} in ONNX and {from_torch.shape} in PyTorch at batch size {batch}"
        )
    difference = float(np.abs(from_onnx - from_torch).max())
    # Negated, so that NaN fails too.
    if not difference <= tolerance:
        raise _mismatch(f"{name} differs by {difference:.2e} at batch size {batch}; the tolerance is {tolerance:.0e}")
    return difference


def _mismatch(what: str) -> ExportError:
    return ExportError(f"parity: {what}; {REMEDY}")


def _compare_pixels(actual: NDArray[Any], expected: NDArray[Any], batch: int) -> None:
    if actual.shape != expected.shape or actual.dtype != np.uint8:
        raise _mismatch(
            f"the decoder returns {actual.dtype} {actual.shape} in ONNX and uint8 {expected.shape} in PyTorch"
        )
    difference = int(np.abs(actual.astype(int) - expected.astype(int)).max())
    if difference > PIXEL_TOLERANCE:
        raise _mismatch(
            f"decoded pixels differ by {difference} at batch size {batch}; the tolerance is {PIXEL_TOLERANCE}"
        )
