"""Tiny bundles, created without torch: linear ONNX graphs with fixed weights, written by `partedvae.serving.bundle`.

`TinyModel` computes the same functions in NumPy, so that tests know all values that a server must return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from partedvae import image_fit
from partedvae.common.fit import DEFAULT_FIT, Fit
from partedvae.results import FloatArray, ImageArray
from partedvae.serving.bundle import (
    DECODER_FILE,
    ENCODER_FILE,
    INT8_ENCODER_FILE,
    SCORER_FILE,
    SCORER_OUTPUTS,
    Bundle,
    factor_output,
    write_bundle,
)
from partedvae.v1.manifest_pb2 import Factor, ImageSpec, Int8Encoder, Manifest, TrainingRecord

OPSET = 21


@dataclass(frozen=True, kw_only=True)
class TinyFactor:
    """Factor of a tiny model."""

    name: str
    class_names: tuple[str, ...]
    u_dim: int


DIGIT = TinyFactor(name="digit", class_names=tuple("0123456789"), u_dim=3)
SHAPE = TinyFactor(name="shape", class_names=("square", "ellipse", "heart"), u_dim=2)
COLOUR = TinyFactor(name="colour", class_names=("red", "blue"), u_dim=1)


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A model whose outputs are linear functions of its inputs, then softmax or sigmoid; weights depend on the seed."""

    factors: tuple[TinyFactor, ...] = (DIGIT,)
    height: int = 8
    width: int = 6
    channels: int = 1
    fit: Fit = DEFAULT_FIT
    """How images of another shape are fitted, in the manifest."""
    z_dim: int = 4
    seed: int = 0
    has_scorer: bool = True
    has_int8: bool = False
    """Whether it has an encoder whose weights are 8-bit integers."""
    measures: dict[str, float] = field(default_factory=dict)
    """Measures of the manifest."""
    warnings: tuple[str, ...] = ()
    """Warnings of the manifest."""
    familiar_negative_elbo: float | None = None
    """Largest score of a familiar image, in the manifest."""
    negative_elbo_percentiles: tuple[float, ...] = ()
    """Percentiles of the scores of test images, in the manifest."""
    recipe: str = "default"
    """Recipe of training, in the manifest."""
    labels_used: int = 256
    """Labels of training, in the manifest."""
    weights: dict[str, FloatArray] = field(init=False)

    def __post_init__(self) -> None:
        """Draw the weights of the encoder ("<factor>.<kind>", "z_mean", "z_logvar") and of the "decoder"."""
        random = np.random.Generator(np.random.PCG64(self.seed))
        dims = {factor_output(f.name, kind): dim for f in self.factors for kind, dim in _head_dims(f)}
        dims |= {"z_mean": self.z_dim, "z_logvar": self.z_dim}
        shapes = {name: (self.pixels, dim) for name, dim in dims.items()}
        shapes["decoder"] = (self.u_dim + self.z_dim, self.pixels)
        weights = {
            name: random.normal(scale=rows**-0.5, size=(rows, columns)).astype(np.float32)
            for name, (rows, columns) in shapes.items()
        }
        object.__setattr__(self, "weights", weights)

    @property
    def pixels(self) -> int:
        """Number of values per image."""
        return self.height * self.width * self.channels

    @property
    def u_dim(self) -> int:
        """Dimensions of u, summed over all factors."""
        return sum(f.u_dim for f in self.factors)

    def manifest(self) -> Manifest:
        """Return the manifest, with different priors for each class."""
        return Manifest(
            image=ImageSpec(
                height=self.height, width=self.width, channels=self.channels, fit=image_fit.BY_NAME[self.fit]
            ),
            factors=[_factor(f) for f in self.factors],
            z_dim=self.z_dim,
            training=TrainingRecord(dataset="tiny", recipe=self.recipe, seed=self.seed, labels_used=self.labels_used),
            scores={"accuracy": 0.5},
            measures=self.measures,
            warnings=self.warnings,
            familiar_negative_elbo=self.familiar_negative_elbo,
            negative_elbo_percentiles=self.negative_elbo_percentiles,
            int8_encoder=Int8Encoder(images=100, agreements={"digit": 1.0}, tolerance=0.1) if self.has_int8 else None,
            opset=OPSET,
        )

    def random_images(self, count: int, seed: int = 0) -> ImageArray:
        """Return random images, uint8 [count, height, width, channels]."""
        random = np.random.Generator(np.random.PCG64(seed))
        return random.integers(0, 256, (count, self.height, self.width, self.channels), dtype=np.uint8)

    def random_latents(self, count: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
        """Return random u of all factors, [count, u_dim], and z, [count, z_dim]."""
        random = np.random.Generator(np.random.PCG64(seed))
        u, z = (random.standard_normal((count, dim), dtype=np.float32) for dim in (self.u_dim, self.z_dim))
        return u, z

    def encode(self, images: ImageArray, *, int8: bool = False) -> dict[str, FloatArray]:
        """Return the outputs of the encoder, or of that of 8-bit integers, computed in NumPy."""
        flat: FloatArray = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
        outputs: dict[str, FloatArray] = {}
        for name, weight in self.weights.items():
            if name != "decoder":
                integers, scale = _quantized(weight)
                outputs[name] = flat @ ((integers * scale).astype(np.float32) if int8 else weight)
        for f in self.factors:
            name = factor_output(f.name, "probs")
            exponentials = np.exp(outputs[name] - outputs[name].max(axis=1, keepdims=True))
            outputs[name] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return outputs

    def score(self, images: ImageArray) -> dict[str, FloatArray]:
        """Return the outputs of the scorer, computed in NumPy: distance from grey, and squares of encoded values."""
        unit = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
        encoded = self.encode(images)
        parts = [np.abs(unit - np.float32(0.5)), *(encoded[name] ** 2 for name in self._squared)]
        scores: list[FloatArray] = [part.sum(axis=1) for part in parts]
        return dict(zip(SCORER_OUTPUTS, [*scores, np.sum(scores, axis=0)], strict=True))

    @property
    def _squared(self) -> list[str]:
        """Encoder outputs in place of the three KL terms of the scorer: z, u and c of the first factor."""
        first = self.factors[0].name
        return ["z_mean", factor_output(first, "u_mean"), factor_output(first, "u_logvar")]

    def decode(self, u: FloatArray, z: FloatArray) -> ImageArray:
        """Return the images of the decoder, computed in NumPy; rounding can differ by one grey level."""
        logits = np.concatenate([u, z], axis=1) @ self.weights["decoder"]
        pixels = np.round(255 / (1 + np.exp(-logits)))
        return pixels.astype(np.uint8).reshape(-1, self.height, self.width, self.channels)

    def encoder_graph(self, *, int8: bool = False) -> onnx.ModelProto:
        """Return the graph of encoder.onnx, or of encoder.int8.onnx."""
        nodes = [
            helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["float", "scale"], ["unit"]),
            helper.make_node("Flatten", ["unit"], ["flat"], axis=1),
        ]
        constants: dict[str, NDArray[Any]] = {"scale": np.array(255, dtype=np.float32)}
        outputs = []
        for name, weight in self.weights.items():
            if name == "decoder":
                continue
            if int8:
                constants[f"{name}.int8"], constants[f"{name}.scale"] = map(np.asarray, _quantized(weight))
                # Not DequantizeLinear, with which ONNX Runtime would also quantize the input of the product.
                nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.integers"], to=TensorProto.FLOAT))
                nodes.append(helper.make_node("Mul", [f"{name}.integers", f"{name}.scale"], [f"{name}.weight"]))
            else:
                constants[f"{name}.weight"] = weight
            probs = name.endswith(".probs")
            nodes.append(helper.make_node("MatMul", ["flat", f"{name}.weight"], [f"{name}.logits" if probs else name]))
            if probs:
                nodes.append(helper.make_node("Softmax", [f"{name}.logits"], [name], axis=1))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", weight.shape[1]]))
        return _model(nodes, [self._image_info()], outputs, constants)

    def decoder_graph(self) -> onnx.ModelProto:
        """Return the graph of decoder.onnx."""
        nodes = [
            helper.make_node("Concat", ["u", "z"], ["latents"], axis=1),
            helper.make_node("MatMul", ["latents", "weight"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["unit"]),
            helper.make_node("Mul", ["unit", "scale"], ["levels"]),
            helper.make_node("Round", ["levels"], ["rounded"]),
            helper.make_node("Cast", ["rounded"], ["bytes"], to=TensorProto.UINT8),
            helper.make_node("Reshape", ["bytes", "shape"], ["images"]),
        ]
        constants: dict[str, NDArray[Any]] = {
            "weight": self.weights["decoder"],
            "scale": np.array(255, dtype=np.float32),
            "shape": np.array([-1, self.height, self.width, self.channels], dtype=np.int64),
        }
        inputs = [
            helper.make_tensor_value_info("u", TensorProto.FLOAT, ["batch", self.u_dim]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", self.z_dim]),
        ]
        return _model(nodes, inputs, [self._image_info()], constants)

    def scorer_graph(self) -> onnx.ModelProto:
        """Return the graph of scorer.onnx."""
        constants: dict[str, NDArray[Any]] = {
            "scale": np.array(255, dtype=np.float32),
            "half": np.array(0.5, dtype=np.float32),
            "axis": np.array([1], dtype=np.int64),
        }
        nodes = [
            helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["float", "scale"], ["unit"]),
            helper.make_node("Flatten", ["unit"], ["flat"], axis=1),
            helper.make_node("Sub", ["flat", "half"], ["distance"]),
            helper.make_node("Abs", ["distance"], ["absolute"]),
            helper.make_node("ReduceSum", ["absolute", "axis"], [SCORER_OUTPUTS[0]], keepdims=0),
        ]
        for name, output in zip(self._squared, SCORER_OUTPUTS[1:4], strict=True):
            constants[f"{name}.weight"] = self.weights[name]
            nodes.append(helper.make_node("MatMul", ["flat", f"{name}.weight"], [name]))
            nodes.append(helper.make_node("ReduceSumSquare", [name, "axis"], [output], keepdims=0))
        nodes.append(helper.make_node("Sum", list(SCORER_OUTPUTS[:4]), [SCORER_OUTPUTS[4]]))
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in SCORER_OUTPUTS]
        return _model(nodes, [self._image_info()], outputs, constants)

    def write(self, model_folder: Path) -> Bundle:
        """Write the next version of the model to `<models>/<name>`."""

        def write_graphs(folder: Path) -> None:
            (folder / ENCODER_FILE).write_bytes(self.encoder_graph().SerializeToString())
            (folder / DECODER_FILE).write_bytes(self.decoder_graph().SerializeToString())
            if self.has_scorer:
                (folder / SCORER_FILE).write_bytes(self.scorer_graph().SerializeToString())
            if self.has_int8:
                (folder / INT8_ENCODER_FILE).write_bytes(self.encoder_graph(int8=True).SerializeToString())

        return write_bundle(model_folder, self.manifest(), write_graphs)

    def _image_info(self) -> onnx.ValueInfoProto:
        shape: list[str | int | None] = ["batch", self.height, self.width, self.channels]
        return helper.make_tensor_value_info("images", TensorProto.UINT8, shape)


def _quantized(weight: FloatArray) -> tuple[NDArray[np.int8], np.float32]:
    """Return a weight as 3-bit integers, which differ visibly from floats, and their scale."""
    scale = np.float32(np.abs(weight).max() / 3)
    return np.round(weight / scale).astype(np.int8), scale


def _head_dims(f: TinyFactor) -> list[tuple[str, int]]:
    return [("probs", len(f.class_names)), ("u_mean", f.u_dim), ("u_logvar", f.u_dim)]


def _factor(f: TinyFactor) -> Factor:
    classes = len(f.class_names)
    weights = np.arange(1, classes + 1, dtype=np.float32)
    means = np.arange(classes * f.u_dim, dtype=np.float32) / 4 - 1
    return Factor(
        name=f.name,
        class_names=f.class_names,
        prior_probs=(weights / weights.sum()).tolist(),
        u_dim=f.u_dim,
        prior_means=means.tolist(),
        prior_logvars=(-2 - means / 4).tolist(),
    )


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, NDArray[Any]],
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    # An old IR version, which all supported versions of onnxruntime can read.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


GREY = TinyModel()
"""One factor with ten classes; grey 8x6 images."""
COLOURED = TinyModel(
    factors=(SHAPE, COLOUR),
    height=10,
    width=12,
    channels=3,
    z_dim=5,
    seed=1,
    measures={"generation/shape": 0.375, "generation/colour": 1.0, "probe_z_mlp/shape": 0.5},
    warnings=("images drawn for a class do not show it",),
    familiar_negative_elbo=1e6,
    negative_elbo_percentiles=tuple(float(score) for score in range(60, 165, 5)),
)
"""Two factors; RGB 10x12 images; measured, with a warning; all images are familiar, and those of
tests are said to have scores from 60 to 160."""
