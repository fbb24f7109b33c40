"""The recipes `paper`: the columns of Table 6 on the networks of Tables 3 to 5, one per kind of image."""

from __future__ import annotations

import dataclasses

from partedvae.training.config.architecture import FactorConfig, ModelConfig
from partedvae.training.config.train_config import (
    ObjectiveConfig,
    OptimiserConfig,
    ScheduleConfig,
    SupervisionConfig,
    TrainConfig,
)
from partedvae.training.data.dataset import DatasetInfo, FactorInfo

TABLE_6_MNIST = ObjectiveConfig(
    gamma_z=15.0,
    gamma_u=15.0,
    gamma_c=15.0,
    gamma_h=30.0,
    gamma_bc=30.0,
    bc_threshold=0.15,
    capacity_z=7.0,
    capacity_u=7.0,
)
TABLE_6_DSPRITES = ObjectiveConfig(
    gamma_z=50.0,
    gamma_u=50.0,
    gamma_c=100.0,
    gamma_h=10.0,
    gamma_bc=10.0,
    bc_threshold=0.1,
    capacity_z=30.0,
    capacity_u=5.0,
)
TABLE_6_CELEBA = ObjectiveConfig(
    reconstruction="l1",
    gamma_z=1000.0,
    gamma_u=1000.0,
    gamma_c=2000.0,
    gamma_h=10.0,
    gamma_bc=500.0,
    bc_threshold=0.2,
    capacity_z=30.0,
    capacity_u=15.0,
)
# The reconstruction error is a sum over pixels; 64x64x3 images have a tenth of CelebA's, so the weights are a tenth,
# but for gamma_h, which keeps the classes from collapsing.
SMALL_FACES = dataclasses.replace(TABLE_6_CELEBA, gamma_z=100.0, gamma_u=100.0, gamma_c=200.0, gamma_bc=50.0)

LAYERS: dict[tuple[int, int], tuple[tuple[int, ...], tuple[int, ...]]] = {
    (32, 32): ((32, 64, 64), (64, 32, 32)),
    (64, 64): ((32, 32, 64, 64), (64, 64, 32, 32)),
    (218, 178): ((32, 32, 64, 64, 64), (64, 64, 64, 32, 32)),
}
"""Filters of encoder and decoder by the input size of the networks (Tables 3, 4 and 5)."""

PADDINGS: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (218, 178): ((0, 2), (1, 2), (0, 2), (0, 1), (0, 0)),
}
"""Paddings of the convolutions where they are not all 1: the authors', which end at the 5x5 (FC 1600) of Table 5."""

LEAKY_SLOPE = 0.1
"""Negative slope of the LeakyReLU after the last convolution and at h, from the authors' code."""


def equal_rates(rate: float) -> OptimiserConfig:
    """Return the paper's rate for both steps; a third of it for labels makes MNIST's classifier collapse."""
    return OptimiserConfig(learning_rate=rate, supervised_learning_rate=rate)


def digits(info: DatasetInfo) -> TrainConfig:
    """Return the MNIST column of Table 6, with the authors' choices for what the paper does not specify."""
    return TrainConfig(
        dataset=info.name,
        recipe="paper",
        labels=256,
        epochs=60,
        batch_size=64,
        model=_model(info, network_size=(32, 32), z_dim=6, u_dim=10),
        objective=TABLE_6_MNIST,
        # 60 epochs are 56,280 steps: the run ends at capacity 3.9 of 7. The attention slope rises by 2e-4 per step.
        schedule=ScheduleConfig(
            unit="steps", capacity_ramp=100_000.0, attention_ramp=35_000.0, learning_rate="plateau"
        ),
        optimiser=equal_rates(1.5e-3),
        supervision=SupervisionConfig(),
    )


def sprites(info: DatasetInfo) -> TrainConfig:
    """Return the dSprites column of Table 6; it takes ten hours on two cores."""
    return TrainConfig(
        dataset=info.name,
        recipe="paper",
        labels=3686,
        labelled="stratified",
        epochs=30,
        batch_size=64,
        model=_model(info, network_size=(64, 64), z_dim=5, u_dim=1),
        objective=TABLE_6_DSPRITES,
        schedule=ScheduleConfig(
            unit="steps",
            capacity_ramp=300_000.0,
            attention_ramp=35_000.0,
            learning_rate="plateau",
            plateau_patience=1,
            supervised_cooldown=2,
        ),
        optimiser=equal_rates(5e-4),
        supervision=SupervisionConfig(),
    )


def faces(info: DatasetInfo) -> TrainConfig:
    """Return the CelebA column of Table 6; for 64x64 images, with weights scaled to the number of pixels."""
    small = info.image_size[0] <= 64
    return TrainConfig(
        dataset=info.name,
        recipe="paper",
        labels=800,
        epochs=80,
        batch_size=64,
        model=_model(info, network_size=(64, 64) if small else (218, 178), z_dim=10, u_dim=1),
        objective=SMALL_FACES if small else TABLE_6_CELEBA,
        schedule=ScheduleConfig(
            unit="steps", capacity_ramp=125_000.0, attention_ramp=35_000.0, learning_rate="plateau"
        ),
        optimiser=equal_rates(5e-4),
        supervision=SupervisionConfig(),
    )


def _model(info: DatasetInfo, *, network_size: tuple[int, int], z_dim: int, u_dim: int) -> ModelConfig:
    encoder, decoder = LAYERS[network_size]
    return ModelConfig(
        image_size=info.image_size,
        network_size=network_size,
        encoder_channels=encoder,
        encoder_paddings=PADDINGS.get(network_size, ()),
        decoder_channels=decoder,
        leaky_slope=LEAKY_SLOPE,
        z_dim=z_dim,
        factors=tuple(_factor(factor, u_dim) for factor in info.factors),
    )


def _factor(factor: FactorInfo, u_dim: int) -> FactorConfig:
    prior = factor.prior or (1 / len(factor.classes),) * len(factor.classes)
    return FactorConfig(name=factor.name, classes=factor.classes, prior=prior, u_dim=u_dim)
