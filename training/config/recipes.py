"""Recipes: named configurations of a data set. `paper` is the column of Table 6; `default` has our best results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from partedvae.common.suggest import lookup
from partedvae.training.config.architecture import FactorConfig, ModelConfig
from partedvae.training.config.train_config import (
    BaselineConfig,
    MethodName,
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
# The reconstruction error is a sum over pixels; 64x64x3 images have a tenth of CelebA's, so the weights are a tenth.
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

SMALL_EPOCH = 6400
"""Images per epoch of a small folder, in several passes: a hundred steps."""

LARGE_EPOCH = 20_000
"""Images per epoch of CelebA in `default`; eight passes over all images would take a night on two cores."""

BASELINE_WEIGHTS: dict[MethodName, float] = {"vae": 1.0, "beta-vae": 2.0, "beta-tcvae": 5.0, "factor-vae": 35.0}
"""beta of beta-VAE and beta-TCVAE, and gamma of FactorVAE, from Table 1."""

BETTER_USE_OF_LABELS = SupervisionConfig(
    warm_start_steps=300, every=4, augment=True, consistency_weight=100.0, ema_decay=0.999
)


def _separated(
    objective: ObjectiveConfig,
    *,
    capacity_z: float,
    capacity_u: float,
    exchange: float = 40.0,
    cycle: float = 4.0,
    adversary: float = 12.0,
) -> ObjectiveConfig:
    """Return an objective of the recipe `default`: the ELBO up to the capacities, and the terms that separate u and z.

    A capacity that rises from zero makes a short run forget what is not worth its KL at first. See docs/METHOD.md for
    what each term is worth.

    Args:
        objective: the paper's objective.
        capacity_z: C_z in nats, from the first step.
        capacity_u: C_u in nats, from the first step.
        exchange: gamma of the exchanged images' class error.
        cycle: gamma of the change of z.
        adversary: gamma of the information that the adversary finds in z.
    """
    return dataclasses.replace(
        objective,
        capacity_penalty="hinge",
        capacity_z=capacity_z,
        capacity_u=capacity_u,
        gamma_exchange=exchange,
        gamma_cycle=cycle,
        gamma_adversary=adversary,
    )


def _short_run(attention_ramp: float, *, separation_start: float = 0.0) -> ScheduleConfig:
    """Return the schedule of the recipe `default`, which scales with the length of the run."""
    return ScheduleConfig(
        unit="run",
        capacity_ramp=1.0,
        capacity_start=1.0,
        attention_ramp=attention_ramp,
        separation_start=separation_start,
        learning_rate="cosine",
    )


def _rates(rate: float) -> OptimiserConfig:
    """Return the paper's rate for both steps; a third of it for labels makes MNIST's classifier collapse."""
    return OptimiserConfig(learning_rate=rate, supervised_learning_rate=rate)


def _digits_paper(info: DatasetInfo) -> TrainConfig:
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
        optimiser=_rates(1.5e-3),
        supervision=SupervisionConfig(),
    )


def _digits_default(info: DatasetInfo) -> TrainConfig:
    """Return our best recipe for digits; it takes seven minutes on one core."""
    paper = _digits_paper(info)
    return dataclasses.replace(
        paper,
        recipe="default",
        epochs=6,
        batch_size=128,
        precision="auto",
        objective=_separated(paper.objective, capacity_z=14.0, capacity_u=4.0),
        schedule=_short_run(0.85),
        supervision=BETTER_USE_OF_LABELS,
    )


def _sprites_paper(info: DatasetInfo) -> TrainConfig:
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
        optimiser=_rates(5e-4),
        supervision=SupervisionConfig(),
    )


def _sprites_default(info: DatasetInfo) -> TrainConfig:
    """Return our best recipe for dSprites; it takes 40 minutes on one core.

    With C_u of the paper's 5 nats in its one dimension, u was made to hold what is not the class. The modes of the
    prior start apart. The terms that separate u and z begin when shapes can be seen: earlier, they made positions
    inexact.
    """
    paper = _sprites_paper(info)
    return dataclasses.replace(
        paper,
        recipe="default",
        epochs=18,
        epoch_images=64_000,
        precision="auto",
        model=dataclasses.replace(paper.model, prior_spacing=4.0),
        objective=_separated(
            paper.objective, capacity_z=25.0, capacity_u=0.5, exchange=20.0, cycle=1.0, adversary=10.0
        ),
        schedule=_short_run(0.1, separation_start=0.3),
        optimiser=dataclasses.replace(_rates(1e-3), prior_rate_factor=10.0),
        supervision=SupervisionConfig(warm_start_steps=600, augment=True, ema_decay=0.999),
    )


def _faces_paper(info: DatasetInfo) -> TrainConfig:
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
        optimiser=_rates(5e-4),
        supervision=SupervisionConfig(),
    )


def _faces_default(info: DatasetInfo) -> TrainConfig:
    """Return our best recipe for faces; it takes 15 minutes on one core for 64x64 images.

    Without the terms that separate u and z, z encoded the small classes (glasses, a smile) and their u did not change
    the image. A patch can cover a class, so cutout is disabled. The modes of the prior start at equal distances: with
    random positions, another class's mode was between the mode of bald heads and their images, and samples of it were
    not faces.
    """
    paper = _faces_paper(info)
    # Relative to the reconstruction error, like SMALL_FACES: ten times as many pixels, ten times the weight.
    pixels = paper.objective.gamma_z / SMALL_FACES.gamma_z
    return dataclasses.replace(
        paper,
        recipe="default",
        labels=500,
        epochs=10,
        precision="auto",
        epoch_images=0 if info.train_images <= LARGE_EPOCH else LARGE_EPOCH,
        model=dataclasses.replace(paper.model, prior_spacing=4.0),
        objective=_separated(
            dataclasses.replace(paper.objective, gamma_bc=100.0 * pixels),
            capacity_z=30.0,
            capacity_u=0.5 * len(paper.model.factors),
            exchange=100.0 * pixels,
            cycle=8.0 * pixels,
            adversary=36.0 * pixels,
        ),
        schedule=_short_run(0.5, separation_start=0.2),
        optimiser=OptimiserConfig(learning_rate=1e-3, supervised_learning_rate=1e-3, prior_rate_factor=10.0),
        supervision=SupervisionConfig(
            warm_start_steps=300,
            augment=True,
            consistency_weight=20.0 * pixels,
            consistency_cutout=False,
            ema_decay=0.998,
        ),
    )


def _folder(info: DatasetInfo) -> TrainConfig:
    """Return the recipe of a folder of the user's images, based on the most similar data set."""
    base = _digits_default(info) if info.image_size[:2] == (32, 32) else _faces_default(info)
    # A pass over a few hundred images is a few steps, too few between evaluations and checkpoints.
    small = info.train_images < SMALL_EPOCH
    return dataclasses.replace(
        base,
        epochs=max(base.epochs, 15) if small else base.epochs,
        epoch_images=SMALL_EPOCH if small else 0,
        batch_size=64,
        labels=info.labelled_images or 0,
        priors="estimated",
    )


RECIPES: dict[str, dict[str, Callable[[DatasetInfo], TrainConfig]]] = {
    "mnist": {"default": _digits_default, "paper": _digits_paper},
    "fashion-mnist": {"default": _digits_default, "paper": _digits_paper},
    "dsprites": {"default": _sprites_default, "paper": _sprites_paper},
    "faces": {"default": _faces_default, "paper": _faces_paper},
    "faces-large": {"default": _faces_default, "paper": _faces_paper},
    "celeba": {"default": _faces_default, "paper": _faces_paper},
    "folder": {"default": _folder},
}
"""Recipes by data set and name."""


def recipe(
    info: DatasetInfo, name: str = "default", method: MethodName = "partedvae", labels: int | None = None
) -> TrainConfig:
    """Return a recipe of a data set.

    Args:
        info: description of the data set.
        name: name of the recipe, "default" or "paper".
        method: PartedVAE, a baseline of Table 1 on the same networks, or the classifier on labels alone.
        labels: number of labelled images; None uses that of the recipe.

    Raises:
        ValueError: the recipe is unknown; the message has the nearest name.
    """
    recipes = lookup("recipes for data set", info.name.partition(":")[0], RECIPES)
    config = lookup(f"recipe for {info.name!r}", name, recipes)(info)
    if method in BASELINE_WEIGHTS:
        # z alone, with as many dimensions as u and z together (caption of Table 1), and no labels.
        model = dataclasses.replace(config.model, z_dim=config.model.z_dim + config.model.u_dim, factors=())
        supervision = dataclasses.replace(config.supervision, warm_start_steps=0)
        baseline = BaselineConfig(weight=BASELINE_WEIGHTS[method])
        config = dataclasses.replace(
            config, method=method, model=model, labels=0, supervision=supervision, baseline=baseline
        )
    else:
        # The classifier has no other steps than supervised ones.
        supervision = dataclasses.replace(config.supervision, every=1) if method == "classifier" else config.supervision
        config = dataclasses.replace(
            config, method=method, labels=config.labels if labels is None else labels, supervision=supervision
        )
    if not config.labels:
        # Classes without labels are clusters, which the images of an exchanged u cannot be held against.
        objective = dataclasses.replace(config.objective, gamma_exchange=0.0, gamma_cycle=0.0, gamma_adversary=0.0)
        config = dataclasses.replace(config, objective=objective)
    if not config.labels and "paper" in recipes:
        # Without a supervised step the higher rate is unstable: at 1e-3, the encoder of dSprites became constant.
        rate = recipes["paper"](info).optimiser.learning_rate
        config = dataclasses.replace(config, optimiser=dataclasses.replace(config.optimiser, learning_rate=rate))
    return config


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
