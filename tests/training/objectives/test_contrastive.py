"""Tests of `partedvae.training.objectives.contrastive`."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from partedvae.training.config.recipes import recipe
from partedvae.training.config.schedules import Schedule
from partedvae.training.config.train_config import BaselineConfig
from partedvae.training.distributed import SINGLE_PROCESS
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.contrastive import Contrastive, nt_xent
from tests.training.toys import TOY_INFO, TOY_MODEL, tiny_config

SCHEDULE = Schedule(
    capacity_z=1.0, capacity_u=1.0, attention_slope=4.0, separation=1.0, opened_z=math.inf, rate_scale=1.0
)
MODEL = dataclasses.replace(TOY_MODEL, z_dim=6, factors=())


def test_nt_xent_is_a_transcription_of_chen_et_al_with_loops() -> None:
    torch.manual_seed(0)
    z, temperature = torch.randn(8, 3), 0.5
    similarity = [[torch.cosine_similarity(a, b, dim=0).item() / temperature for b in z] for a in z]
    total = 0.0
    for i in range(8):
        others = sum(math.exp(similarity[i][k]) for k in range(8) if k != i)
        total -= math.log(math.exp(similarity[i][(i + 4) % 8]) / others) / 8
    assert nt_xent(z, temperature).item() == pytest.approx(total, rel=1e-5)


def test_copies_with_equal_directions_that_no_other_has_cost_nothing() -> None:
    directions = torch.eye(4)
    assert nt_xent(torch.cat([directions, 3 * directions]), 0.05).item() == pytest.approx(0, abs=1e-6)


def test_the_features_do_not_depend_on_the_reconstruction() -> None:
    config = tiny_config("paper", method="contrastive", model=MODEL, labels=0, baseline=BaselineConfig(weight=0.2))
    model = PartedVAE(config.model)
    _, terms = Contrastive(config, SINGLE_PROCESS).losses(model, torch.rand(8, 1, 16, 16), SCHEDULE)
    (terms["reconstruction"] + terms["kl_z"]).backward()
    assert all(parameter.grad is None for parameter in model.trunk.parameters())
    head = model.z_head.weight.grad
    assert head is not None
    means, logvars = head.chunk(2)
    assert not means.any()
    assert logvars.any()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.decoder.parameters())


def test_the_recipe_has_no_classes_and_no_batch_larger_than_the_data_set() -> None:
    config = recipe(dataclasses.replace(TOY_INFO, name="folder:x", train_images=100), method="contrastive", labels=7)
    assert (config.method, config.labels, config.model.factors, config.model.z_dim) == ("contrastive", 0, (), 64)
    assert config.batch_size == 100
    assert config.epochs * config.epoch_images == 256_000


def test_the_temperature_is_checked() -> None:
    with pytest.raises(ValueError, match=r"baseline\.weight is 0.*temperature"):
        tiny_config("paper", method="contrastive", model=MODEL, labels=0, baseline=BaselineConfig(weight=0.0))
