"""Description of a configuration in the form of the paper: architecture (Tables 3 to 5), hyperparameters (Table 6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from partedvae.training.config.schedules import schedule_at
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.names import FOLDER
from partedvae.training.data.registry import entry
from partedvae.training.model.networks import feature_map_sizes
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.data import label_use, run_dataset_name
from partedvae.training.runs.directory import RunDirectory

COLUMN = 34
"""Width of the first column of the hyperparameters."""
CAPACITY_PENALTIES = {"absolute": "gamma |KL - C| (Eq. 6)", "hinge": "KL + gamma max(KL - C, 0)"}
"""Loss of a KL with capacity C, by the value of `objective.capacity_penalty`."""


def describe_config(config: TrainConfig, train_images: int) -> str:
    """Return the layers with their shapes, the hyperparameters, and the final values of the schedules.

    Args:
        config: the configuration.
        train_images: number of training images of its data set, which determines the number of steps.
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


def describe_run(run: RunDirectory, data_dir: Path) -> str:
    """Return the state of a run, and the description of its configuration.

    Args:
        run: the run directory.
        data_dir: folder of the data sets, whose number of training images determines the number of steps.

    Raises:
        ValueError: the run cannot be read, or its folder of images has moved and is needed.
    """
    config = run.load_config()
    images = config.epoch_images or config.train_images
    if not images:
        images = entry(run_dataset_name(run), labels=label_use(config)).describe(data_dir).train_images
    return f"{run.path}: {_state(run)}\n{describe_config(config, images)}"


def _state(run: RunDirectory) -> str:
    if not run.summary_file.exists():
        return f"not finished; continue with 'partedvae train --resume {run.path}'"
    summary = run.load_summary()
    texts = summary.get("accuracy_text") or {name: f"{value:.2%}" for name, value in summary["accuracy"].items()}
    accuracies = ", ".join(f"test accuracy {name} {text}" for name, text in texts.items())
    return f"finished after {summary['epochs']} epochs" + (f", {accuracies}" if accuracies else "")


def _encoder(config: TrainConfig) -> Iterator[str]:
    model = config.model
    sizes = feature_map_sizes(model)
    leaky = f"LeakyReLU({model.leaky_slope:g})" if model.leaky_slope else "ReLU"
    activations = [*["ReLU"] * (len(model.encoder_channels) - 1), leaky]
    height, width, channels = model.image_size
    yield f"  input: {height} x {width} x {channels} uint8, resized to {sizes[0][0]} x {sizes[0][1]}"
    for filters, size, padding, activation in zip(
        model.encoder_channels, sizes[1:], model.layer_paddings, activations, strict=True
    ):
        yield f"  {filters} conv. {_layer(padding)}, {activation} -> {filters} x {size[0]} x {size[1]}"
    yield f"  FC {model.hidden_dim}, {leaky} (h)"
    for factor in model.factors:
        yield f"  FC {len(factor.classes)} (c of {factor.name})"
    yield f"  FC 2 x {model.z_dim} (z)"
    for factor in model.factors:
        yield f"  FC {model.hidden_dim} (a from c of {factor.name}), FC 2 x {factor.u_dim} (u from h.a)"


def _decoder(config: TrainConfig) -> Iterator[str]:
    model = config.model
    sizes = feature_map_sizes(model)[::-1]
    activations = [*["ReLU"] * (len(model.decoder_channels) - 1), "sigmoid"]
    yield f"  input: z and u, {model.z_dim} + {model.u_dim}"
    yield f"  FC {model.hidden_dim}, ReLU"
    filters, (height, width) = model.decoder_channels[0], sizes[0]
    yield f"  FC {filters * height * width}, ReLU -> {filters} x {height} x {width}"
    channels = (*model.decoder_channels[1:], model.image_size[2])
    for filters, size, padding, activation in zip(
        channels, sizes[1:], model.layer_paddings[::-1], activations, strict=True
    ):
        yield f"  {filters} conv. transpose {_layer(padding)}, {activation} -> {filters} x {size[0]} x {size[1]}"


def _layer(padding: tuple[int, int]) -> str:
    shown = f"{padding[0]}" if padding[0] == padding[1] else f"({padding[0]}, {padding[1]})"
    return f"4 x 4, stride 2, padding {shown}"


def _hyperparameters(config: TrainConfig, train_images: int) -> Iterator[tuple[str, object]]:
    """Yield name and value of the hyperparameters that the method uses."""
    steps = config.epochs * -(-(config.epoch_images or config.train_images or train_images) // config.batch_size)
    yield "method", config.method
    if config.dataset.startswith(FOLDER):
        yield "fit of images of another shape", config.fit
    yield "number of discrete variables", len(config.model.factors)
    if config.model.factors:
        yield "classes of each variable", [len(factor.classes) for factor in config.model.factors]
        yield "priors p(c)", config.priors
    if config.method == "partedvae":
        yield "dimension of u of each variable", [factor.u_dim for factor in config.model.factors]
        spacing = config.model.prior_spacing
        yield "initial prior means", f"{spacing:g} apart, in order" if spacing else "from N(0, 1)"
    yield "initial weights", "He et al." if config.model.initial_weights == "he" else "PyTorch's"
    if config.method != "classifier":
        yield "dimension of z", config.model.z_dim
        yield "learning rate, ELBO step", config.optimiser.learning_rate
    if config.method == "partedvae":
        yield "learning rate, prior modes", config.optimiser.learning_rate * config.optimiser.prior_rate_factor
    if config.model.factors:
        yield "learning rate, supervised step", config.optimiser.supervised_learning_rate
    yield "learning rate schedule", config.schedule.learning_rate
    if config.method != "classifier":
        clip = config.optimiser.clip_factor
        yield "largest norm of the gradient, ELBO step", f"{clip:g} times its moving average" if clip else "not limited"
    yield from _objective(config, steps)
    yield "epochs", config.epochs
    yield "images per epoch", f"{config.epoch_images or config.train_images or train_images:,}"
    yield "batch size", config.batch_size
    yield "steps", f"{steps:,}"
    yield "precision", config.precision
    yield from _supervision(config)


def _objective(config: TrainConfig, steps: int) -> Iterator[tuple[str, object]]:
    """Yield the loss weights and schedules of the method."""
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
    separation = (objective.gamma_exchange, objective.gamma_cycle, objective.gamma_adversary)
    yield "gamma exchange, cycle, adversary", ", ".join(f"{weight:g}" for weight in separation)
    if objective.gamma_contrast:
        yield "gamma contrast", f"{objective.gamma_contrast:g}"
    if objective.beta_z != 1 or schedule.z_opening:
        yield "weight of the KL of z", f"{objective.beta_z:g}"
    if schedule.z_opening:
        yield (
            "dimensions of z open",
            f"one per {schedule.z_opening:g} of the run; weight {objective.beta_z_closed:g} until then",
        )
    if any(separation) and schedule.separation_start:
        yield "exchange, cycle, adversary begin", f"after {schedule.separation_start:g} of the run"
    yield "penalty of capacities", CAPACITY_PENALTIES[objective.capacity_penalty]
    for name, capacity in (("z", objective.capacity_z), ("u", objective.capacity_u)):
        first = schedule.capacity_start * capacity
        rises = f"{first:g} to {capacity:g} in {schedule.capacity_ramp:,g} {unit}"
        yield f"capacity of {name}", f"{capacity:g}" if first == capacity else rises
    yield "final capacities of z, u", f"{final.capacity_z:.2f}, {final.capacity_u:.2f} after {steps:,} steps"
    yield (
        "capacity is compared with",
        "the mean KL of the batch" if objective.capacity_of == "batch" else "the KL of each image",
    )
    yield "KL of u", objective.kl_u
    yield "attention slope", f"1 to {schedule.attention_slope:g} in {schedule.attention_ramp:,g} {unit}"
    yield "final attention slope", f"{final.attention_slope:.2f}"
    yield "BC threshold (delta)", objective.bc_threshold
    yield "temperature", objective.temperature


def _supervision(config: TrainConfig) -> Iterator[tuple[str, object]]:
    """Yield the hyperparameters of the use of labels."""
    supervision = config.supervision
    if config.model.factors:
        yield "labelled images", f"{config.labels}, {config.labelled}"
        if config.features_run:
            yield "labels of groups by", config.features_run
        yield "supervised batch size", supervision.batch_size
        yield "supervised warm start", f"{supervision.warm_start_steps} steps"
        often = f"every {supervision.every} steps after a tenth of the run"
        yield "supervised step", "before each step" if supervision.every == 1 else often
        yield "augmentation of labelled images", "on" if supervision.augment else "off"
    if config.method == "partedvae":
        yield "consistency weight", f"{supervision.consistency_weight:g}"
        if supervision.consistency_weight:
            yield "consistency threshold", supervision.consistency_threshold
            yield "consistency cutout", "on" if supervision.consistency_cutout else "off"
    yield "moving average of weights", supervision.ema_decay or "off"
