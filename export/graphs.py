"""The graphs of a bundle: PyTorch modules with the bundle's inputs and outputs, and their translation to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from partedvae.export.errors import ExportError
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
"""Operator set of the graphs; ONNX Runtime has it since 1.17."""
EXAMPLE_BATCH = 2
"""Images of the example that the exporter traces; the batch is dynamic."""


class EncoderGraph(nn.Module):
    """uint8 images to probs, u mean and u log-variance of each factor, then z mean and log-variance."""

    def __init__(self, model: PartedVAE, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.network_size = config.model.network_size
        self.slope = config.schedule.attention_slope

    def forward(self, images: UInt8[Tensor, "batch height width channels"]) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `encoder_output_names`; c' is the most probable class."""
        posterior = self.model.encode(preprocess(images, self.network_size), slope=self.slope)
        outputs = []
        for factor in posterior.factors:
            outputs += [factor.probs, factor.u.mean, factor.u.logvar]
        return (*outputs, posterior.z.mean, posterior.z.logvar)


class DecoderGraph(nn.Module):
    """u and z to uint8 images."""

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
    """uint8 images to the negative ELBO of each (Eq. 2) and its four terms, in nats.

    The expectations over c of the KLs are exact: KL(q(c | x) || p(c)), and the KL of u as Eq. 2 writes it, each
    q(u | c = i, x) against its own mode, weighted by q(c = i | x), also where training held one drawn c against every
    mode. The expectation of log p(x | c, u, z) is its value at the posterior means with the most probable class, where
    Reconstruct takes its image: a score must not change from call to call. With "l1", p(x | c, u, z) is Laplace's with
    scale 1, without its constant. Unlike the training's objective (Eq. 6), no term has a weight or a capacity.
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
    """Return `reconstruction_error` "bce": PyTorch's own is exported as the log of a sigmoid, which overflows."""
    error = logits.clamp(min=0) - logits * pixels + torch.log1p(torch.exp(-logits.abs()))
    return error.flatten(1).sum(dim=1)


def encoder_output_names(config: TrainConfig) -> list[str]:
    """Return the names of the encoder's outputs, in the graph's order."""
    return encoder_outputs(factor.name for factor in config.model.factors)


def write_encoder(path: Path, model: PartedVAE, config: TrainConfig) -> None:
    """Write the encoder as one ONNX file with a dynamic batch.

    Raises:
        ExportError: the exporter cannot translate it, or the graph does not check.
    """
    example = torch.zeros(EXAMPLE_BATCH, *config.model.image_size, dtype=torch.uint8)
    _write(path, EncoderGraph(model, config), (example,), [ENCODER_INPUT], encoder_output_names(config))


def write_decoder(path: Path, model: PartedVAE, config: TrainConfig) -> None:
    """Write the decoder as one ONNX file with a dynamic batch.

    Raises:
        ExportError: the exporter cannot translate it, or the graph does not check.
    """
    example = (torch.zeros(EXAMPLE_BATCH, config.model.u_dim), torch.zeros(EXAMPLE_BATCH, config.model.z_dim))
    _write(path, DecoderGraph(model, config), example, list(DECODER_INPUTS), [DECODER_OUTPUT])


def write_scorer(path: Path, model: PartedVAE, config: TrainConfig) -> None:
    """Write the scorer as one ONNX file with a dynamic batch.

    Raises:
        ExportError: the exporter cannot translate it, or the graph does not check.
    """
    example = torch.zeros(EXAMPLE_BATCH, *config.model.image_size, dtype=torch.uint8)
    _write(path, ScorerGraph(model, config), (example,), [SCORER_INPUT], list(SCORER_OUTPUTS))


def _write(path: Path, graph: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str]) -> None:
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
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
        raise ExportError(f"PyTorch could not translate {type(graph).__name__} to ONNX")
    program.save(str(path), external_data=False)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} is not a valid ONNX graph: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on its own internals; what fails is raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
