"""Comparison of the encoder of 8-bit integers with that of 32-bit floats on test images, before a bundle is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from partedvae.export.errors import ExportError
from partedvae.serving.bundle import ENCODER_INPUT
from partedvae.serving.onnx_runtime import ort
from partedvae.training.data.dataset import UNLABELLED, Images, Split
from partedvae.v1.manifest_pb2 import Int8Encoder

TOLERANCE = 0.1
"""Maximum root mean square difference of an encoder output, relative to its standard deviation over the images."""
LEAST_SPREAD = 0.25
"""Least standard deviation that differences are relative to, a quarter of the prior's, or nats of a log-variance:
outputs that carry nothing hardly vary."""
MAX_LOSS = 0.001
"""Maximum decrease of an accuracy, and maximum share of images with another most probable class where there is none."""
BATCH = 500
"""Images per run; affects only memory."""

Outputs = Mapping[str, NDArray[Any]]
REMEDY = "no bundle was written; export with --precision fp32"


def check_int8_encoder(
    encoder: Path, int8_encoder: Path, test: Split, factors: Sequence[str], supervised: Sequence[str]
) -> Int8Encoder:
    """Compare the two encoders on all test images.

    Args:
        encoder: the encoder of 32-bit floats.
        int8_encoder: the encoder of 8-bit integers.
        test: the test images, with their labels.
        factors: names of the factors, in the order of the labels.
        supervised: those that have an accuracy; others are compared by their most probable classes.

    Returns:
        The comparison, for the manifest.

    Raises:
        ExportError: an accuracy or an agreement falls by more than `MAX_LOSS`, or a difference is above `TOLERANCE`.
    """
    expected, actual = (_run(path, test.images) for path in (encoder, int8_encoder))
    result = Int8Encoder(images=len(test), tolerance=TOLERANCE)
    everything = np.ones(len(test), dtype=bool)
    for k, factor in enumerate(factors):
        classes, int8_classes = (outputs[f"{factor}.probs"].argmax(axis=1) for outputs in (expected, actual))
        same = classes == int8_classes
        result.agreements[factor] = float(same.mean())
        if factor in supervised:
            labels = test.labels[:, k].numpy()
            known = labels != UNLABELLED
            before, after = (float((c == labels)[known].mean()) for c in (classes, int8_classes))
            result.accuracies[factor] = after
            _check_loss(f"the accuracy of {factor!r} on {int(known.sum()):,} test images", before, after)
        else:
            _check_loss(f"the share of {len(test):,} test images with the same class of {factor!r}", 1.0, same.mean())
        for kind in ("u_mean", "u_logvar"):
            _add_difference(result, f"{factor}.{kind}", expected, actual, same)
    for name in ("z_mean", "z_logvar"):
        _add_difference(result, name, expected, actual, everything)
    return result


def _run(path: Path, images: Images) -> Outputs:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    batches = [
        session.run(names, {ENCODER_INPUT: images[indices].numpy()})
        for indices in torch.arange(len(images)).split(BATCH)
    ]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*batches, strict=True), strict=True)}


def _check_loss(what: str, before: float, after: float) -> None:
    # A margin for rounding: one of 1,000 images is within the limit.
    if before - after > MAX_LOSS + 1e-9:
        raise ExportError(
            f"precision 'int8': {what} falls from {before:.2%} to {after:.2%}, by more than {100 * MAX_LOSS:g} "
            f"percentage points; {REMEDY}"
        )


def _add_difference(
    result: Int8Encoder, name: str, expected: Outputs, actual: Outputs, chosen: NDArray[np.bool_]
) -> None:
    """Add the relative difference of an output on the chosen images to the result.

    Raises:
        ExportError: it is above the tolerance.
    """
    reference, values = expected[name][chosen].astype(np.float64), actual[name][chosen].astype(np.float64)
    if reference.size == 0:
        return
    spread = max(float(np.sqrt(reference.var(axis=0).mean())), LEAST_SPREAD)
    difference = float(np.sqrt(np.square(values - reference).mean())) / spread
    # Negated, so that NaN fails too.
    if not difference <= TOLERANCE:
        raise ExportError(
            f"precision 'int8': {name} differs by {difference:.2f} standard deviations on {len(reference):,} test "
            f"images; the tolerance is {TOLERANCE}; {REMEDY}"
        )
    result.relative_differences[name] = difference
