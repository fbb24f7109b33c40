"""The graphs of a bundle: PyTorch modules with the inputs and outputs of the bundle, and their export to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from jaxtyping import Float, UInt8
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from partedvae.export.errors import REMEDY, ExportError
from partedvae.export.folded import FoldedEncoder
from partedvae.serving.bundle import (
    DECODER_INPUTS,
    DECODER_OUTPUT,
    ENCODER_INPUT,
    SCORER_INPUT,
    SCORER_OUTPUTS,
    encoder_outputs,
)
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.model.distributions import categorical_kl, kl_to_standard
from partedvae.training.model.networks import postprocess, preprocess
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.terms import kl_of_u, reconstruction_error

OPSET = 20
"""ONNX operator set of the graphs; supported since ONNX Runtime 1.17."""
EXAMPLE_BATCH = 2
"""Batch size of the example input for tracing; the batch dimension is dynamic."""


class EncoderGraph(nn.Module):
    """Maps uint8 images to probs, mean and log-variance of u for each factor, and mean and log-variance of z.

    The reference of parity; `FoldedEncoder` is exported, which computes the same.
    """

    def __init__(self, model: PartedVAE, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.network_size = config.model.network_size
        self.slope = config.schedule.attention_slope

    def forward(self, images: UInt8[Tensor, "batch height width channels"]) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `encoder_output_names`; u is that of the most probable classes."""
        posterior = self.model.encode(preprocess(images, self.network_size), slope=self.slope)
        outputs = []
        for factor in posterior.factors:
            outputs += [factor.probs, factor.u.mean, factor.u.logvar]
        return (*outputs, posterior.z.mean, posterior.z.logvar)


class DecoderGraph(nn.Module):
    """Maps u and z to uint8 images."""

    def __init__(self, model: PartedVAE, config: TrainConfig) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.image_size = config.model.image_size[:2]

    def forward(
        self, u: Float[Tensor, "batch u_dim"], z: Float[Tensor, "batch z_dim"]
    ) -> UInt8[Tensor, "batch height width channels"]:
        """Return the mean image of p(x | u, z)."""
        return postprocess(self.decoder(u, z), self.image_size)


class ScorerGraph(nn.Module):
    """Maps uint8 images to the negative ELBO (Eq. 2) and its four terms, per image, in nats.

    The KL terms are exact expectations over c: KL(q(c | x) || p(c)), and the KL of u as in Eq. 2, where each
    q(u | c = i, x) is compared with its own mode and weighted by q(c = i | x), even if training compared one sampled c
    with every mode. The expectation of log p(x | c, u, z) is approximated by its value at the posterior means with the
    most probable class (the image of Reconstruct), so that scores are deterministic. With "l1", p(x | c, u, z) is a
    Laplace distribution of scale 1, without its constant. Unlike in the training objective (Eq. 6), no term has a
    weight or a capacity.
    """

    def __init__(self, model: PartedVAE, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.network_size = config.model.network_size
        self.slope = config.schedule.attention_slope
        self.reconstruction = config.objective.reconstruction

    def forward(self, images: UInt8[Tensor, "batch height width channels"]) -> tuple[Tensor, ...]:
        """Return `partedvae.serving.bundle.SCORER_OUTPUTS`, each [batch]."""
        pixels = preprocess(images, self.network_size)
        posterior = self.model.encode(pixels, slope=self.slope)
        logits = self.model.decoder.logits(posterior.u_mean, posterior.z.mean)
        kl_u, kl_c = [], []
        for module, factor in zip(self.model.class_factors(), posterior.factors, strict=True):
            kl_u.append(kl_of_u(module, factor, posterior.hidden, "matched", self.slope))
            kl_c.append(categorical_kl(factor.probs, module.prior_probs))
        terms = (
            _bce(logits, pixels)
            if self.reconstruction == "bce"
            else reconstruction_error(logits, pixels, self.reconstruction),
            kl_to_standard(posterior.z),
            torch.stack(kl_u).sum(dim=0),
            torch.stack(kl_c).sum(dim=0),
        )
        return (*terms, torch.stack(terms).sum(dim=0))


def _bce(logits: Tensor, pixels: Tensor) -> Tensor:
    """Return `reconstruction_error` "bce"; the loss of PyTorch is exported as log(sigmoid), which overflows."""
    error = logits.clamp(min=0) - logits * pixels + torch.log1p(torch.exp(-logits.abs()))
    return error.flatten(1).sum(dim=1)


def encoder_output_names(config: TrainConfig) -> list[str]:
    """Return the names of the encoder's outputs, in the order of the graph."""
    return encoder_outputs(factor.name for factor in config.model.factors)


def write_encoder(path: Path, model: PartedVAE, config: TrainConfig) -> None:
    """Write the encoder as one ONNX file with a dynamic batch.

    Raises:
        ExportError: the exporter fails, or the graph is not valid ONNX.
    """
    example = torch.zeros(EXAMPLE_BATCH, *config.model.image_size, dtype=torch.uint8)
    _write(path, FoldedEncoder(model, config), (example,), [ENCODER_INPUT], encoder_output_names(config))


def write_decoder(path: Path, model: PartedVAE, config: TrainConfig) -> None:
    """Write the decoder as one ONNX file with a dynamic batch.

    Raises:
        ExportError: the exporter fails, or the graph is not valid ONNX.
    """
    example = (torch.zeros(EXAMPLE_BATCH, config.model.u_dim), torch.zeros(EXAMPLE_BATCH, config.model.z_dim))
    _write(path, DecoderGraph(model, config), example, list(DECODER_INPUTS), [DECODER_OUTPUT])


def write_scorer(path: Path, model: PartedVAE, config: TrainConfig) -> None:
    """Write the scorer as one ONNX file with a dynamic batch.

    Raises:
        ExportError: the exporter fails, or the graph is not valid ONNX.
    """
    example = torch.zeros(EXAMPLE_BATCH, *config.model.image_size, dtype=torch.uint8)
    _write(path, ScorerGraph(model, config), (example,), [SCORER_INPUT], list(SCORER_OUTPUTS))


def _write(path: Path, graph: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str]) -> None:
    batch = torch.export.Dim("batch", min=1)
    with _suppress_exporter_output():
        program = torch.onnx.export(
            graph.eval(),
            example,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"PyTorch could not export {type(graph).__name__} to ONNX; {REMEDY}")
    # Each node has the stack of its export: source lines, and paths of the machine that exports.
    ClearMetadataAndDocStringPass()(program.model)
    program.save(str(path), external_data=False)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} is not a valid ONNX graph: {error}; {REMEDY}") from error


@contextmanager
def _suppress_exporter_output() -> Iterator[None]:
    """Suppress log messages and warnings of the exporter about its internals; errors are still raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
