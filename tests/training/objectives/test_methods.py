"""The baselines' terms against independent references, and that each method trains."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Literal

import pytest
import torch
from torch.distributions import Normal

from partedvae.training.config.schedules import Schedule
from partedvae.training.config.train_config import BaselineConfig, MethodName, TrainConfig
from partedvae.training.data.dataset import first_labelled
from partedvae.training.distributed import SINGLE_PROCESS
from partedvae.training.engine.device import prepare
from partedvae.training.engine.trainer import Trainer
from partedvae.training.evaluation.evaluation import evaluate
from partedvae.training.model.distributions import Gaussian, kl_to_standard
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.baselines import BetaTCVAE, BetaVAE, decomposed_kl
from partedvae.training.objectives.factor_vae import FactorVAE, permute_dimensions
from partedvae.training.objectives.partedvae import PartedVAEMethod
from tests.training.toys import TOY_MODEL, tiny_config, toy_dataset

SCHEDULE = Schedule(
    capacity_z=1.0, capacity_u=1.0, attention_slope=4.0, separation=1.0, opened_z=math.inf, rate_scale=1.0
)


def config_of(method: MethodName, weight: float = 2.0, **changes: object) -> TrainConfig:
    """Return a configuration of a method; baselines have z alone."""
    model = TOY_MODEL if method in ("partedvae", "classifier") else dataclasses.replace(TOY_MODEL, z_dim=6, factors=())
    labels = 40 if model.factors else 0
    return tiny_config(
        "paper", method=method, model=model, labels=labels, baseline=BaselineConfig(weight=weight), **changes
    )


def trainer_of(config: TrainConfig) -> Trainer:
    train = toy_dataset().train
    prepare(config.seed)
    return Trainer(config, train, first_labelled(train, config.labels), SINGLE_PROCESS)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vae", "beta-vae", "beta-tcvae", "factor-vae"])
def test_every_baseline_learns_to_reconstruct_and_needs_no_labels(method: MethodName) -> None:
    trainer = trainer_of(config_of(method))
    errors = []
    for _ in range(2):
        for _ in range(trainer.steps_per_epoch):
            losses = trainer.train_step()
        errors.append(trainer.end_epoch()["reconstruction"])
    assert errors[-1] < errors[0]
    assert losses["supervised"].item() == 0.0
    evaluation = evaluate(trainer.final_model, toy_dataset().test, trainer.config)
    assert evaluation.factors == ()
    assert evaluation.reconstruction > 0


@pytest.mark.slow
def test_the_classifier_learns_from_labels_alone_and_leaves_the_decoder_as_it_was() -> None:
    trainer = trainer_of(config_of("classifier", epochs=30))
    before = [p.clone() for p in trainer.model.decoder.parameters()]
    while trainer.step < trainer.total_steps:
        losses = trainer.train_step()
    assert set(losses) == {"loss", "supervised"}
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.decoder.parameters(), strict=True))
    assert evaluate(trainer.final_model, toy_dataset().test, trainer.config).accuracies["corner"] > 0.7


def test_beta_weighs_the_kl() -> None:
    config = config_of("beta-vae", weight=3.0)
    model = PartedVAE(config.model)
    total, terms = BetaVAE(config, SINGLE_PROCESS).losses(model, torch.rand(5, 1, 16, 16), SCHEDULE)
    assert total.item() == pytest.approx((terms["reconstruction"] + 3 * terms["kl_z"]).item())


def test_the_decomposed_kl_is_a_transcription_of_chen_et_al_with_loops() -> None:
    q = Gaussian(torch.randn(6, 3), 0.5 * torch.randn(6, 3))
    z, n = q.sample(), 100
    densities = [[Normal(q.mean[j], (0.5 * q.logvar[j]).exp()).log_prob(z[i]) for j in range(6)] for i in range(6)]
    information, correlation, dimensions = 0.0, 0.0, 0.0
    for i in range(6):
        log_qz = math.log(sum(math.exp(d.sum().item()) for d in densities[i]) / (6 * n))
        log_prod = sum(math.log(sum(math.exp(d[k].item()) for d in densities[i]) / (6 * n)) for k in range(3))
        log_prior = Normal(0.0, 1.0).log_prob(z[i]).sum().item()
        information += (densities[i][i].sum().item() - log_qz) / 6
        correlation += (log_qz - log_prod) / 6
        dimensions += (log_prod - log_prior) / 6
    actual = [term.item() for term in decomposed_kl(q, z, n)]
    assert actual == pytest.approx([information, correlation, dimensions], rel=1e-4)


def test_the_three_parts_of_the_kl_sum_to_its_sampled_value() -> None:
    q = Gaussian(torch.randn(500, 2), torch.zeros(500, 2))
    draws = torch.stack([torch.stack(decomposed_kl(q, q.sample(), 500)).sum() for _ in range(50)])
    assert draws.mean().item() == pytest.approx(kl_to_standard(q).mean().item(), rel=0.02)


def test_permuting_keeps_the_values_of_each_dimension_and_breaks_their_pairs() -> None:
    z = torch.arange(20.0).unsqueeze(1).expand(20, 3).contiguous()
    permuted = permute_dimensions(z, SINGLE_PROCESS)
    for k in range(3):
        assert sorted(permuted[:, k].tolist()) == list(range(20))
    assert not torch.equal(permuted[:, 0], permuted[:, 1])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_discriminator_learns_to_separate_correlated_samples_from_permuted_ones() -> None:
    method = FactorVAE(config_of("factor-vae"), SINGLE_PROCESS, torch.device("cpu"))
    losses = []
    for _ in range(60):
        method._z = torch.randn(64, 1).expand(64, 6).contiguous()
        method._loss = method._discriminator_loss()
        losses.append(method._loss.item())
        method.after_step()
    assert losses[0] == pytest.approx(math.log(2), abs=0.05)
    assert losses[-1] < 0.4


def test_factor_vae_resumes_exactly_with_its_discriminator() -> None:
    trainer = trainer_of(config_of("factor-vae"))
    for _ in range(3):
        trainer.train_step()

    state = copy.deepcopy(trainer.state_dict())
    expected = [trainer.train_step()["loss"].item() for _ in range(3)]
    other = trainer_of(config_of("factor-vae", seed=5))
    other.batches = trainer.batches
    other.load_state_dict(state)
    assert [other.train_step()["loss"].item() for _ in range(3)] == expected


def test_the_discriminator_has_six_hidden_layers_of_1000_units() -> None:
    """As disentanglement_lib's fc_discriminator."""
    method = FactorVAE(config_of("factor-vae"), SINGLE_PROCESS, torch.device("cpu"))
    layers = [layer for layer in method.discriminator if isinstance(layer, torch.nn.Linear)]
    widths = [(layer.in_features, layer.out_features) for layer in layers]
    assert widths == [(6, 1000), *[(1000, 1000)] * 5, (1000, 2)]


def test_a_run_with_the_former_discriminator_of_five_layers_resumes() -> None:
    config = config_of("factor-vae")
    old, new = (FactorVAE(config, SINGLE_PROCESS, torch.device("cpu")) for _ in range(2))
    old._build(5, 6, torch.device("cpu"))
    old._z = torch.randn(8, 6)
    old._loss = old._discriminator_loss()
    old.after_step()
    new.load_state_dict(copy.deepcopy(old.state_dict()))
    z = torch.randn(3, 6)
    assert torch.equal(new.discriminator(z), old.discriminator(z))
    assert new.optimiser.state_dict()["state"][0]["step"] == 1


def test_a_classifier_without_labels_and_a_partedvae_without_factors_are_errors() -> None:
    with pytest.raises(ValueError, match="method 'classifier' is trained on labels alone; pass --labels"):
        dataclasses.replace(config_of("classifier"), labels=0)
    with pytest.raises(ValueError, match="method 'partedvae' needs a labelled factor"):
        dataclasses.replace(config_of("partedvae"), model=dataclasses.replace(TOY_MODEL, factors=()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("capacity_of", ["batch", "image"])
def test_the_loss_of_partedvae_is_the_weighted_sum_of_its_terms(
    seed: int, capacity_of: Literal["batch", "image"]
) -> None:
    """For random weights; with capacities above every KL, |KL - C| is C - KL of the mean and of each image."""
    separation = ("gamma_exchange", "gamma_cycle", "gamma_adversary")
    names = ("gamma_z", "gamma_u", "gamma_c", "gamma_h", "gamma_bc", *separation, "gamma_contrast", "consistency")
    weights = dict(
        zip(names, torch.rand(len(names), generator=torch.Generator().manual_seed(seed)).tolist(), strict=True)
    )
    consistency = weights.pop("consistency")
    config = tiny_config()
    config = dataclasses.replace(
        config,
        objective=dataclasses.replace(
            config.objective, capacity_of=capacity_of, capacity_penalty="absolute", **weights
        ),
        supervision=dataclasses.replace(config.supervision, consistency_weight=consistency, consistency_threshold=0.01),
    )
    torch.manual_seed(seed)
    schedule = Schedule(
        capacity_z=500.0, capacity_u=900.0, attention_slope=4.0, separation=0.5, opened_z=math.inf, rate_scale=1.0
    )
    method = PartedVAEMethod(config, SINGLE_PROCESS, torch.device("cpu"), torch.zeros(1, 2, dtype=torch.int64))
    loss, terms = method.losses(PartedVAE(config.model), torch.rand(24, 1, 16, 16), schedule)
    assert tuple(terms) == method.term_names
    value = {name: term.item() for name, term in terms.items()}
    assert all(value.values())
    expected = (
        value["reconstruction"]
        + weights["gamma_z"] * (500 - value["kl_z"])
        + weights["gamma_u"] * (900 - value["kl_u"])
        + weights["gamma_h"] * value["entropy"]
        + weights["gamma_c"] * value["kl_c"]
        + weights["gamma_bc"] * value["bhattacharyya"]
        + 0.5 * weights["gamma_exchange"] * value["exchange"]
        + 0.5 * weights["gamma_cycle"] * value["cycle"]
        + 0.5 * weights["gamma_adversary"] * value["adversary"]
        + weights["gamma_contrast"] * value["contrast"]
        + consistency * value["consistency"]
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_losses_of_the_baselines_are_the_weighted_sums_of_their_terms(seed: int) -> None:
    weight = 10 * torch.rand(1, generator=torch.Generator().manual_seed(seed)).item()
    torch.manual_seed(seed)
    model, pixels = PartedVAE(config_of("vae").model), torch.rand(24, 1, 16, 16)
    loss, terms = BetaTCVAE(config_of("beta-tcvae", weight), SINGLE_PROCESS, 100).losses(model, pixels, SCHEDULE)
    expected = terms["reconstruction"] + terms["mutual_information"] + terms["dimension_kl"]
    assert loss.item() == pytest.approx((expected + weight * terms["total_correlation"]).item(), rel=1e-5)
    method = FactorVAE(config_of("factor-vae", weight), SINGLE_PROCESS, torch.device("cpu"))
    loss, terms = method.losses(model, pixels, SCHEDULE)
    expected = terms["reconstruction"] + terms["kl_z"] + weight * terms["total_correlation"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
