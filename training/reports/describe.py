"""A recipe as the paper prints it: architecture (Tables 3 to 5) and hyperparameters (Table 6)."""

from __future__ import annotations

from collections.abc import Iterator

from partedvae.training.config.schedules import schedule_at
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.model.networks import feature_map_sizes
from partedvae.training.model.partedvae import PartedVAE

COLUMN = 34
"""Width of the first column of the hyperparameters."""


def describe_config(config: TrainConfig, train_images: int) -> str:
    """Return layers with shapes, hyperparameters, and the values that the schedules reach at the end of the run.

    Args:
        config: the recipe.
        train_images: training images of its data set, which with the epochs make the steps of the run.
    """
    lines = [
        f"{config.dataset}, recipe {config.recipe}",
        "",
        "Encoder",
        *_encoder(config),
        "",
        "Decoder",
        *_decoder(config),
    ]
    parameters = sum(p.numel() for p in PartedVAE(config.model).parameters())
    lines += ["", f"{parameters:,} parameters", "", "Hyperparameters"]
    lines += [f"  {name:<{COLUMN}}{value}" for name, value in _hyperparameters(config, train_images)]
    return "\n".join(lines)


def _encoder(config: TrainConfig) -> Iterator[str]:
    model = config.model
    sizes = feature_map_sizes(model.network_size, len(model.encoder_channels))
    height, width, channels = model.image_size
    yield f"  input: {height} x {width} x {channels} uint8, resized to {sizes[0][0]} x {sizes[0][1]}"
    for filters, size in zip(model.encoder_channels, sizes[1:], strict=True):
        yield f"  {filters} conv. 4 x 4, stride 2 -> {filters} x {size[0]} x {size[1]}"
    yield f"  FC {model.hidden_dim} (h)"
    for factor in model.factors:
        yield f"  FC {len(factor.classes)} (c of {factor.name})"
    yield f"  FC 2 x {model.z_dim} (z)"
    for factor in model.factors:
        yield f"  FC {model.hidden_dim} (a from c of {factor.name}), FC 2 x {factor.u_dim} (u from h.a)"


def _decoder(config: TrainConfig) -> Iterator[str]:
    model = config.model
    sizes = feature_map_sizes(model.network_size, len(model.decoder_channels))[::-1]
    yield f"  input: z and u, {model.z_dim} + {model.u_dim}"
    yield f"  FC {model.hidden_dim}"
    filters, (height, width) = model.decoder_channels[0], sizes[0]
    yield f"  FC {filters * height * width} -> {filters} x {height} x {width}"
    for filters, size in zip((*model.decoder_channels[1:], model.image_size[2]), sizes[1:], strict=True):
        yield f"  {filters} conv. transpose 4 x 4, stride 2 -> {filters} x {size[0]} x {size[1]}"


def _hyperparameters(config: TrainConfig, train_images: int) -> Iterator[tuple[str, object]]:
    """Yield what decides the run; what a method does not use is left out."""
    steps = config.epochs * -(-(config.epoch_images or config.train_images or train_images) // config.batch_size)
    yield "method", config.method
    yield "number of discrete variables", len(config.model.factors)
    if config.model.factors:
        yield "classes of each", [len(factor.classes) for factor in config.model.factors]
        yield "priors p(c)", config.priors
    if config.method == "partedvae":
        yield "dimension of u of each", [factor.u_dim for factor in config.model.factors]
        spacing = config.model.prior_spacing
        yield "prior means at the start", f"{spacing:g} apart, in order" if spacing else "from N(0, 1)"
    if config.method != "classifier":
        yield "dimension of z", config.model.z_dim
        yield "learning rate, ELBO step", config.optimiser.learning_rate
    if config.method == "partedvae":
        yield "the same, prior's modes", config.optimiser.learning_rate * config.optimiser.prior_rate_factor
    if config.model.factors:
        yield "learning rate, supervised step", config.optimiser.supervised_learning_rate
    yield "learning rate schedule", config.schedule.learning_rate
    yield from _objective(config, steps)
    yield "epochs", config.epochs
    yield "images of an epoch", config.epoch_images or config.train_images or train_images
    yield "batch size", config.batch_size
    yield "steps", f"{steps:,}"
    yield "precision", config.precision
    yield from _supervision(config)


def _objective(config: TrainConfig, steps: int) -> Iterator[tuple[str, object]]:
    """Yield the weights of the method's loss, and the schedules in it."""
    objective, schedule = config.objective, config.schedule
    if config.method == "classifier":
        return
    yield "reconstruction error", objective.reconstruction.upper()
    if config.method != "partedvae":
        yield ("gamma" if config.method == "factor-vae" else "beta"), f"{config.baseline.weight:g}"
        return
    final = schedule_at(steps, steps, schedule, objective)
    unit = "steps" if schedule.unit == "steps" else "of the run"
    yield "gamma c, h", f"{objective.gamma_c:g}, {objective.gamma_h:g}"
    yield "gamma z, u", f"{objective.gamma_z:g}, {objective.gamma_u:g}"
    yield "gamma bc", f"{objective.gamma_bc:g}"
    yield "gamma of leakage, exchange", f"{objective.gamma_leakage:g}, {objective.gamma_exchange:g}"
    yield "capacity of z", f"0 to {objective.capacity_z:g} in {schedule.capacity_ramp:,g} {unit}"
    yield "capacity of u", f"0 to {objective.capacity_u:g} in {schedule.capacity_ramp:,g} {unit}"
    yield "final capacities of z, u", f"{final.capacity_z:.2f}, {final.capacity_u:.2f} after {steps:,} steps"
    yield "capacity is compared with", "the mean KL of the batch" if objective.capacity_of == "batch" else "each KL"
    yield "KL of u", objective.kl_u
    yield "attention slope", f"1 to {schedule.attention_slope:g} in {schedule.attention_ramp:,g} {unit}"
    yield "final attention slope", f"{final.attention_slope:.2f}"
    yield "BC threshold (delta)", objective.bc_threshold
    yield "temperature", objective.temperature


def _supervision(config: TrainConfig) -> Iterator[tuple[str, object]]:
    """Yield how labels are used."""
    supervision = config.supervision
    if config.model.factors:
        yield "labelled images", f"{config.labels}, {config.labelled}"
        yield "supervised batch size", supervision.batch_size
        yield "supervised warm start", f"{supervision.warm_start_steps} steps"
        yield "augmentation of labelled images", "on" if supervision.augment else "off"
    if config.method == "partedvae":
        yield "consistency weight", f"{supervision.consistency_weight:g}"
        if supervision.consistency_weight:
            yield "consistency above a confidence of", supervision.consistency_threshold
            yield "cutout of its copies", "on" if supervision.consistency_cutout else "off"
    yield "moving average of weights", supervision.ema_decay or "off"
