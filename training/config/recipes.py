"""Recipes, named configurations of a data set: `paper` is Table 6, `default` our best, `features` for `suggest`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from partedvae.common.suggest import lookup
from partedvae.training.config import paper_recipes
from partedvae.training.config.train_config import (
    BaselineConfig,
    MethodName,
    ObjectiveConfig,
    OptimiserConfig,
    ScheduleConfig,
    SupervisionConfig,
    TrainConfig,
)
from partedvae.training.data.dataset import DatasetInfo

SMALL_EPOCH = 6400
"""Images per epoch of a small folder, in several passes: a hundred steps."""

LARGE_EPOCH = 20_000
"""Images per epoch of CelebA in `default`; eight passes over all images would take a night on two cores."""

UNLABELLED_RECIPE = "features"
"""Recipe that has no labels."""
FEATURES = 32
"""Dimensions of u in `features`, at least."""

BASELINE_WEIGHTS: dict[MethodName, float] = {"vae": 1.0, "beta-vae": 2.0, "beta-tcvae": 5.0, "factor-vae": 35.0}
"""beta of beta-VAE and beta-TCVAE, and gamma of FactorVAE, from Table 1."""

CLIP_FACTOR = 2.0
"""Largest norm of a gradient, as a multiple of its moving average."""

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


def _default_rates(rate: float, prior_rate_factor: float = 1.0) -> OptimiserConfig:
    """Return the optimisers of the recipe `default`, with one rate for both steps, and clipped gradients."""
    rates = paper_recipes.equal_rates(rate)
    return dataclasses.replace(rates, prior_rate_factor=prior_rate_factor, clip_factor=CLIP_FACTOR)


def _digits_default(info: DatasetInfo) -> TrainConfig:
    """Return our best recipe for digits; it takes 7 minutes on one core with bfloat16, 16 on one without."""
    paper = paper_recipes.digits(info)
    return dataclasses.replace(
        paper,
        recipe="default",
        epochs=6,
        batch_size=128,
        precision="auto",
        objective=_separated(paper.objective, capacity_z=14.0, capacity_u=4.0),
        schedule=_short_run(0.85),
        optimiser=_default_rates(1.5e-3),
        supervision=BETTER_USE_OF_LABELS,
    )


def _sprites_default(info: DatasetInfo) -> TrainConfig:
    """Return our best recipe for dSprites; it took 50 minutes on a shared core.

    With C_u of the paper's 5 nats in its one dimension, u was made to hold what is not the class. The modes of the
    prior start apart. The dimensions of z open one after the other, as otherwise x, y, scale and orientation share
    them. The terms that separate u and z begin when all are open and shapes can be seen: earlier, they made positions
    inexact.
    """
    paper = paper_recipes.sprites(info)
    return dataclasses.replace(
        paper,
        recipe="default",
        epochs=14,
        epoch_images=64_000,
        precision="auto",
        model=dataclasses.replace(paper.model, prior_spacing=4.0),
        objective=dataclasses.replace(
            _separated(paper.objective, capacity_z=25.0, capacity_u=0.5, exchange=20.0, cycle=1.0, adversary=10.0),
            beta_z=2.0,
        ),
        schedule=dataclasses.replace(_short_run(0.1, separation_start=0.35), z_opening=0.07),
        optimiser=_default_rates(1e-3, prior_rate_factor=10.0),
        supervision=SupervisionConfig(warm_start_steps=600, augment=True, ema_decay=0.999),
    )


def _faces_default(info: DatasetInfo) -> TrainConfig:
    """Return our best recipe for faces; it took 27 minutes on a shared core for 64x64 images.

    Without the terms that separate u and z, z encoded the small classes (glasses, a smile) and their u did not change
    the image. A patch can cover a class, so cutout is disabled. The modes of the prior start at equal distances: with
    random positions, another class's mode was between the mode of bald heads and their images, and samples of it were
    not faces. After ten epochs, half of the bald and short-haired heads were drawn with too much hair. With PyTorch's
    initial weights, the warm start had not learnt hair and smiling when the ELBO steps began.
    """
    paper = paper_recipes.faces(info)
    # Relative to the reconstruction error, as for the paper: ten times as many pixels, ten times the weight.
    pixels = paper.objective.gamma_z / paper_recipes.SMALL_FACES.gamma_z
    return dataclasses.replace(
        paper,
        recipe="default",
        labels=500,
        epochs=18,
        precision="auto",
        epoch_images=0 if info.train_images <= LARGE_EPOCH else LARGE_EPOCH,
        model=dataclasses.replace(paper.model, initial_weights="he", prior_spacing=4.0),
        objective=_separated(
            dataclasses.replace(paper.objective, gamma_bc=100.0 * pixels),
            capacity_z=30.0,
            capacity_u=0.5 * len(paper.model.factors),
            exchange=100.0 * pixels,
            cycle=8.0 * pixels,
            adversary=36.0 * pixels,
        ),
        schedule=_short_run(0.5, separation_start=0.2),
        optimiser=_default_rates(1e-3, prior_rate_factor=10.0),
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
        epochs=15 if small else base.epochs,
        epoch_images=SMALL_EPOCH if small else 0,
        batch_size=64,
        labels=info.labelled_images or 0,
        priors="estimated",
    )


def _features(base: TrainConfig) -> TrainConfig:
    """Return the recipe of features without labels, for `partedvae suggest`.

    u has what an image and its augmented copy have in common and other images do not, for which it needs more
    dimensions than for classes. The larger the batch, the more other images it is compared with.
    """
    dimensions = -(-FEATURES // len(base.model.factors))
    factors = tuple(dataclasses.replace(factor, u_dim=dimensions) for factor in base.model.factors)
    return dataclasses.replace(
        base,
        recipe=UNLABELLED_RECIPE,
        labels=0,
        batch_size=2 * base.batch_size,
        model=dataclasses.replace(base.model, factors=factors),
        objective=dataclasses.replace(base.objective, gamma_contrast=1000.0),
        # Not clipped: its groups were measured without, and there are no labels to lose.
        optimiser=dataclasses.replace(base.optimiser, learning_rate=1e-3, clip_factor=0.0),
        supervision=SupervisionConfig(),
    )


RECIPES: dict[str, dict[str, Callable[[DatasetInfo], TrainConfig]]] = {
    "mnist": {"default": _digits_default, "paper": paper_recipes.digits},
    "fashion-mnist": {"default": _digits_default, "paper": paper_recipes.digits},
    "dsprites": {"default": _sprites_default, "paper": paper_recipes.sprites},
    "faces": {"default": _faces_default, "paper": paper_recipes.faces},
    "faces-large": {"default": _faces_default, "paper": paper_recipes.faces},
    "celeba": {"default": _faces_default, "paper": paper_recipes.faces},
    "folder": {"default": _folder},
}
"""Recipes by data set and name, without `features`, which is based on `default`."""


def recipe(
    info: DatasetInfo, name: str = "default", method: MethodName = "partedvae", labels: int | None = None
) -> TrainConfig:
    """Return a recipe of a data set.

    Args:
        info: description of the data set.
        name: name of the recipe: default, paper or features.
        method: PartedVAE, a baseline of Table 1 on the same networks, or the classifier on labels alone.
        labels: number of labelled images; None uses that of the recipe.

    Raises:
        ValueError: the recipe is unknown, and the message has the nearest name; or it has no labels, or no such method.
    """
    recipes = lookup("recipes for data set", info.name.partition(":")[0], RECIPES)
    make = lookup(f"recipe for {info.name!r}", name, {**recipes, UNLABELLED_RECIPE: recipes["default"]})
    config = make(info)
    if name == UNLABELLED_RECIPE:
        if labels or method != "partedvae":
            raise ValueError(f"the recipe {name!r} has no labels and no other method; omit --labels and --method")
        config = _features(config)
    if method in BASELINE_WEIGHTS:
        # z alone, with as many dimensions as u and z together (caption of Table 1), and no labels.
        model = dataclasses.replace(config.model, z_dim=config.model.z_dim + config.model.u_dim, factors=())
        supervision = dataclasses.replace(config.supervision, warm_start_steps=0)
        baseline = BaselineConfig(weight=BASELINE_WEIGHTS[method])
        config = dataclasses.replace(
            config, method=method, model=model, labels=0, supervision=supervision, baseline=baseline
        )
    else:
        supervision, optimiser = config.supervision, config.optimiser
        if method == "classifier":
            # It has no other steps than supervised ones, whose gradients are not clipped.
            supervision = dataclasses.replace(supervision, every=1)
            optimiser = dataclasses.replace(optimiser, clip_factor=0.0)
        config = dataclasses.replace(
            config,
            method=method,
            labels=config.labels if labels is None else labels,
            supervision=supervision,
            optimiser=optimiser,
        )
    if not config.labels:
        # Classes without labels are clusters, which the images of an exchanged u cannot be held against.
        objective = dataclasses.replace(config.objective, gamma_exchange=0.0, gamma_cycle=0.0, gamma_adversary=0.0)
        config = dataclasses.replace(config, objective=objective)
    if not config.labels and name == "default" and "paper" in recipes:
        # Without a supervised step the higher rate is unstable: at 1e-3, the encoder of dSprites became constant.
        rate = recipes["paper"](info).optimiser.learning_rate
        config = dataclasses.replace(config, optimiser=dataclasses.replace(config.optimiser, learning_rate=rate))
    return config
