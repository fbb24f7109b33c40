"""The objective equals the authors' code: same weights, images and noise give the same terms and gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from partedvae.training.config.recipes import recipe
from partedvae.training.config.schedules import Schedule
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data import celeba, dsprites, mnist
from partedvae.training.distributed import DistributedContext, ShardedNoise
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.partedvae import PartedVAEMethod
from partedvae.training.objectives.terms import supervised_loss
from tests.training.objectives.authors_terms import BATCH, CASES, HEAD_GAIN, Case

INFOS = {info.name: info for info in (mnist.INFO, dsprites.INFO, celeba.INFO)}
TOLERANCE = 1e-4
"""Relative. The authors' terms were computed in float64, ours are in float32."""


Convolution: TypeAlias = nn.Conv2d | nn.ConvTranspose2d


class RecordedNoise(ShardedNoise):
    """The noise of a case, in the order in which the model draws it: c' of all factors, u of all factors, z."""

    def __init__(self, case: Case, config: TrainConfig) -> None:
        super().__init__()
        self._draws: Iterator[Tensor] = self._recorded(case, config)

    def normal(self, like: Tensor) -> Tensor:
        return self._next(like)

    def gumbel(self, like: Tensor) -> Tensor:
        return -torch.log(-torch.log(self._next(like)))

    def _next(self, like: Tensor) -> Tensor:
        draw = next(self._draws)
        assert draw.shape == like.shape
        return draw

    @staticmethod
    def _recorded(case: Case, config: TrainConfig) -> Iterator[Tensor]:
        for factor in config.model.factors:
            yield torch.from_numpy(case.array(f"{factor.name} gumbel noise", (BATCH, len(factor.classes)), kind="unit"))
        for factor in config.model.factors:
            yield torch.from_numpy(case.array(f"{factor.name} u noise", (BATCH, factor.u_dim), kind="gaussian"))
        yield torch.from_numpy(case.array("z noise", (BATCH, config.model.z_dim), kind="gaussian"))


def convolutions(layers: nn.ModuleList) -> list[Convolution]:
    """Return the layers with their type, which ModuleList loses."""
    found = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(found) == len(layers)
    return found


@torch.no_grad()
def model_of(case: Case, config: TrainConfig) -> PartedVAE:
    """Return the model with the weights of a case."""
    model, hidden = PartedVAE(config.model), config.model.hidden_dim
    for i, layer in enumerate(convolutions(model.trunk.convolutions)):
        _fill(case, layer, f"encoder {i}", fan_in=16 * layer.in_channels)
    _fill(case, model.trunk.hidden, "hidden", fan_in=model.trunk.hidden.in_features)
    _fill_pair(case, model.z_head, "z")
    for module in model.class_factors():
        name = module.config.name
        _fill(case, module.logits, f"{name} logits", fan_in=hidden, gain=HEAD_GAIN)
        _fill(case, module.attention, f"{name} attention", fan_in=module.attention.in_features, gain=HEAD_GAIN)
        _fill_pair(case, module.u_head, f"{name} u")
        shape = tuple(module.prior_mean.shape)
        _copy(module.prior_mean, case.array(f"{name} prior mean", shape, kind="gaussian", scale=0.3))
        _copy(module.prior_raw_logvar, case.array(f"{name} prior raw logvar", shape, kind="gaussian", scale=0.5))
    _fill(case, model.decoder.hidden, "decoder hidden", fan_in=model.decoder.hidden.in_features)
    _fill(case, model.decoder.map, "decoder map", fan_in=hidden)
    decoder = convolutions(model.decoder.convolutions)
    for i, layer in enumerate(decoder):
        gain = 6.0 if i + 1 < len(decoder) else HEAD_GAIN
        _fill(case, layer, f"decoder {i}", fan_in=4 * layer.in_channels, gain=gain)
    return model


def _fill(case: Case, layer: nn.Linear | Convolution, name: str, *, fan_in: int, gain: float = 6.0) -> None:
    _copy(layer.weight, case.weight(name, tuple(layer.weight.shape), fan_in, gain))
    assert layer.bias is not None
    _copy(layer.bias, case.bias(name, len(layer.bias)))


def _fill_pair(case: Case, layer: nn.Linear, name: str) -> None:
    """Fill a layer of means and log-variances, which are two layers in the authors' code."""
    size = layer.out_features // 2
    names, shape = (f"{name} mean", f"{name} logvar"), (size, layer.in_features)
    _copy(layer.weight, np.concatenate([case.weight(each, shape, layer.in_features, HEAD_GAIN) for each in names]))
    _copy(layer.bias, np.concatenate([case.bias(each, size) for each in names]))


def _copy(parameter: Tensor, values: np.ndarray) -> None:
    parameter.copy_(torch.from_numpy(values))


@pytest.fixture(params=CASES, ids=lambda case: case.dataset)
def case(request: pytest.FixtureRequest) -> Case:
    """Return each case in turn."""
    chosen: Case = request.param
    return chosen


@pytest.fixture
def config(case: Case) -> TrainConfig:
    return recipe(INFOS[case.dataset], "paper")


@pytest.fixture
def pixels(case: Case, config: TrainConfig) -> Tensor:
    shape = (BATCH, config.model.image_size[2], *config.model.network_size)
    return torch.from_numpy(case.array("pixels", shape, kind=case.pixels))


def test_terms_and_gradients_are_the_authors(case: Case, config: TrainConfig, pixels: Tensor) -> None:
    """Every term of Eq. 6, the loss, and its gradient at both ends of the networks, at all heads and at the prior."""
    model = model_of(case, config)
    context = DistributedContext()
    context.noise = RecordedNoise(case, config)
    schedule = Schedule(
        capacity_z=case.capacity_z,
        capacity_u=case.capacity_u,
        attention_slope=case.slope,
        rate_scale=1.0,
        separation=0.0,
    )
    labels = torch.zeros(1, len(config.model.factors), dtype=torch.int64)
    output = PartedVAEMethod(config, context, torch.device("cpu"), labels).losses(model, pixels, schedule)
    output.loss.backward()

    found = {name: value.item() for name, value in output.terms.items()} | {"loss": output.loss.item()}
    expected = {name: value for name, value in case.terms.items() if name != "supervised"}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=TOLERANCE)
    assert gradients(model) == pytest.approx(case.gradients, rel=TOLERANCE)


def test_the_supervised_loss_is_the_authors(case: Case, config: TrainConfig, pixels: Tensor) -> None:
    """Eq. 7, where every image has a label of every factor."""
    counts = [len(factor.classes) for factor in config.model.factors]
    labels = torch.stack([(torch.arange(BATCH) + k) % count for k, count in enumerate(counts)], dim=1)
    loss = supervised_loss(model_of(case, config).class_logits(pixels), labels)
    assert loss.item() == pytest.approx(case.terms["supervised"], rel=TOLERANCE)


def gradients(model: PartedVAE) -> dict[str, float]:
    """Return the norms of the gradients, with the names of the cases."""
    factors = list(model.class_factors())
    return {
        "encoder 0": _norm([convolutions(model.trunk.convolutions)[0].weight]),
        "hidden": _norm([model.trunk.hidden.weight]),
        "logits": _norm(factor.logits.weight for factor in factors),
        "attention": _norm(factor.attention.weight for factor in factors),
        "u head": _norm(factor.u_head.weight for factor in factors),
        "z head": _norm([model.z_head.weight]),
        "prior means": _norm(factor.prior_mean for factor in factors),
        "prior log-variances": _norm(factor.prior_raw_logvar for factor in factors),
        "decoder last": _norm([convolutions(model.decoder.convolutions)[-1].weight]),
    }


def _norm(parameters: Iterable[Tensor]) -> float:
    found = [parameter.grad for parameter in parameters]
    return math.sqrt(sum(gradient.double().square().sum().item() for gradient in found if gradient is not None))
