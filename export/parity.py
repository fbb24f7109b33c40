"""Proof that the exported graphs compute what PyTorch computes, on real images, before any bundle appears."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from partedvae.export.errors import ExportError
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
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.model.partedvae import PartedVAE

TOLERANCE = 1e-4
"""Largest absolute difference of an encoder output that passes."""
SCORE_TOLERANCE = 1e-4
"""Largest difference of a score that passes, relative to the score, or absolute where it is below one: scores are sums
over all pixels, hundreds of nats."""
PIXEL_TOLERANCE = 1
"""Largest difference of a decoder pixel, of 255: a value on the edge between two may round either way."""
BATCHES = (1, 7, 64)
"""Batch sizes at which the graphs are compared: the batch is dynamic, and must be so in truth."""


def prove_parity(folder: Path, model: PartedVAE, config: TrainConfig, images: Tensor) -> float:
    """Compare the graphs in a folder with PyTorch and return the largest absolute difference of an encoder output.

    Args:
        folder: holds encoder.onnx, decoder.onnx and scorer.onnx.
        model: what was exported.
        config: its configuration.
        images: real images, uint8 [count, height, width, channels], at least as many as the largest batch.

    Raises:
        ExportError: a difference is above its tolerance, or a most probable class differs; names the output.
    """
    encoder, decoder, scorer = (
        onnxruntime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])
        for name in (ENCODER_FILE, DECODER_FILE, SCORER_FILE)
    )
    worst = 0.0
    for batch in BATCHES:
        chosen = images[:batch]
        expected = _run_torch(EncoderGraph(model, config), chosen)
        actual = encoder.run(None, {ENCODER_INPUT: chosen.numpy()})
        worst = max(worst, _compare_encoder(encoder_output_names(config), actual, expected, batch))
        latents = _latents(config, expected)
        pixels = decoder.run(None, dict(zip(DECODER_INPUTS, (x.numpy() for x in latents), strict=True)))[0]
        _compare_pixels(pixels, _run_torch(DecoderGraph(model, config), *latents)[0], batch)
        scores = scorer.run(None, {SCORER_INPUT: chosen.numpy()})
        _compare_scores(scores, _run_torch(ScorerGraph(model, config), chosen), batch)
    return worst


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
    worst = 0.0
    for name, ours, torchs in zip(names, actual, expected, strict=True):
        worst = max(worst, _compare(name, ours, torchs, batch, TOLERANCE))
        if name.endswith(".probs") and (ours.argmax(axis=1) != torchs.argmax(axis=1)).any():
            raise ExportError(f"parity: {name} has another most probable class in ONNX at batch {batch}")
    return worst


def _compare_scores(actual: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], batch: int) -> None:
    for name, ours, torchs in zip(SCORER_OUTPUTS, actual, expected, strict=True):
        scale = np.maximum(1, np.abs(torchs))
        _compare(name, ours / scale, torchs / scale, batch, SCORE_TOLERANCE)


def _compare(name: str, ours: NDArray[Any], torchs: NDArray[Any], batch: int, tolerance: float) -> float:
    """Return the largest difference of an output."""
    if ours.shape != torchs.shape:
        raise ExportError(
            f"parity: {name} has shape {ours.shape} in ONNX and {torchs.shape} in PyTorch at batch {batch}"
        )
    difference = float(np.abs(ours - torchs).max())
    # Not "above": a NaN must fail too.
    if not difference <= tolerance:
        raise ExportError(
            f"parity: {name} differs by {difference:.2e} at batch {batch}; at most {tolerance:.0e} passes"
        )
    return difference


def _compare_pixels(actual: NDArray[Any], expected: NDArray[Any], batch: int) -> None:
    if actual.shape != expected.shape or actual.dtype != np.uint8:
        raise ExportError(f"parity: the decoder gives {actual.dtype} {actual.shape}, PyTorch uint8 {expected.shape}")
    difference = int(np.abs(actual.astype(int) - expected.astype(int)).max())
    if difference > PIXEL_TOLERANCE:
        raise ExportError(
            f"parity: decoded pixels differ by {difference} at batch {batch}; at most {PIXEL_TOLERANCE} passes"
        )
