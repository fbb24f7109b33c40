"""Static quantization of the encoder to 8-bit integers, by ONNX Runtime, with ranges of activations on real images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

import partedvae.serving.onnx_runtime  # noqa: F401  # disables telemetry before onnxruntime.quantization is imported
from partedvae.export.errors import ExportError
from partedvae.serving.bundle import ENCODER_INPUT
from partedvae.training.data.dataset import Images

CALIBRATION_IMAGES = 1024
"""Images whose activations set the ranges of the integers; with more, hardly any range grows."""
BATCH = 64


def calibration_indices(images: Images) -> Tensor:
    """Return the indices of the calibration images: evenly spaced, since data sets may be sorted by class."""
    return torch.linspace(0, len(images) - 1, min(CALIBRATION_IMAGES, len(images))).round().long()


def write_int8_encoder(path: Path, encoder: Path, images: Images) -> None:
    """Write the encoder of 8-bit integers as one ONNX file, with pairs of QuantizeLinear and DequantizeLinear.

    Activations are unsigned, weights are signed with a scale per channel. The first convolution computes with 32-bit
    floats, because ONNX Runtime is slower with the integers of so few channels, and so do the heads, which take little
    time and decide on the accuracy.

    Args:
        path: the file to write.
        encoder: the encoder of 32-bit floats, as `partedvae.export.graphs.write_encoder` writes it.
        images: training images; `calibration_indices` are read.

    Raises:
        ExportError: the encoder cannot be quantized, or the result is not valid ONNX.
    """
    # Imported here, after the telemetry was disabled.
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    try:
        with _quiet():
            quantize_static(
                encoder,
                path,
                _Calibration(images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                # Weights of 7 bits: without VNNI, sums of two products of 8 bits do not fit into the 16 bits that
                # processors have for them, and the same graph would compute other features.
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=quantized_nodes(onnx.load(encoder).graph),
                # The heads read h as 32-bit floats.
                extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
            )
        model = onnx.load(path)
        del model.metadata_props[:]
        onnx.save(model, path)
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # Those of ONNX Runtime and of ONNX have no common base.
        raise ExportError(
            f"the encoder cannot be quantized to 8-bit integers: {error}; no bundle was written; export with "
            "--precision fp32"
        ) from error


def quantized_nodes(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes that compute with integers: all convolutions but the first, and the layer of h.

    With them the ReLUs after these convolutions, which the range of the integers then replaces.
    """
    # Nodes of a graph are sorted: the heads come after h.
    convolutions = [node for node in graph.node if node.op_type == "Conv"][1:]
    outputs = {node.output[0] for node in convolutions}
    relus = [node for node in graph.node if node.op_type == "Relu" and node.input[0] in outputs]
    hidden = [node for node in graph.node if node.op_type == "Gemm"][:1]
    return [node.name for node in (*convolutions, *relus, *hidden)]


class _Calibration:
    """Reads batches of calibration images; a `CalibrationDataReader` of ONNX Runtime."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._batches = iter(calibration_indices(images).split(BATCH))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch by the name of the graph's input; None after the last."""
        indices = next(self._batches, None)
        return None if indices is None else {ENCODER_INPUT: self._images[indices].numpy()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the quantization logs on the root logger, such as advice on options; errors are still raised."""
    disabled = logging.root.manager.disable
    handler = logging.NullHandler()  # Without one, the first message would install a handler that writes to stderr.
    logging.root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        logging.root.removeHandler(handler)
