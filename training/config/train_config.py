"""The configuration of a run: frozen dataclasses, checked when they are made, stored as JSON in the run directory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from partedvae.training.config.architecture import FactorConfig, ModelConfig
from partedvae.training.config.old_names import current_config
from partedvae.training.config.validation import require, require_choice
from partedvae.training.data.labelled import check_way

MethodName = Literal["partedvae", "classifier", "vae", "beta-vae", "beta-tcvae", "factor-vae"]
METHODS = get_args(MethodName)
NEED_FACTORS = ("partedvae", "classifier")
"""Methods that work with classes; the others have z alone."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of Eq. 6 and A.5; the values are Table 6's."""

    reconstruction: Literal["bce", "l1"] = "bce"
    """Reconstruction error, summed over pixels: binary cross-entropy, or absolute difference (Table 6's MAE)."""
    gamma_z: float
    """Weight of the z capacity term."""
    gamma_u: float
    """Weight of the u capacity term."""
    gamma_c: float
    """Weight of KL(q(c) || p(c))."""
    gamma_h: float
    """Weight of the entropy of q(c | x)."""
    gamma_bc: float
    """Weight of the overlap of the mixture prior's modes; 0 is the paper's ablation without BC."""
    gamma_leakage: float = 0.0
    """Weight of what z tells of the classes (`partedvae.training.objectives.regularisers`); not in the paper."""
    gamma_exchange: float = 0.0
    """Weight of the classes that decoded images show when their u is exchanged; not in the paper."""
    bc_threshold: float
    """delta: the Bhattacharyya coefficient that costs nothing."""
    capacity_z: float
    """C_z at the end of its ramp, in nats."""
    capacity_u: float
    """C_u at the end of its ramp, in nats."""
    capacity_of: Literal["batch", "image"] = "batch"
    """|C - KL| of the batch's mean KL (the authors' code), or the mean over images of |C - KL| (as Eq. 6 has it)."""
    kl_u: Literal["sampled", "matched"] = "sampled"
    """KL of u with the one sampled c' against every mode (the authors' code), or each mode with its own c (Eq. 2)."""
    temperature: float = 0.67
    """Of the Gumbel-softmax."""

    def __post_init__(self) -> None:
        """Check what the dataclass cannot say."""
        require_choice(self, "objective", reconstruction=("bce", "l1"), capacity_of=("batch", "image"))
        require_choice(self, "objective", kl_u=("sampled", "matched"))
        weights = ("gamma_z", "gamma_u", "gamma_c", "gamma_h", "gamma_bc", "gamma_leakage", "gamma_exchange")
        for field in (*weights, "capacity_z", "capacity_u"):
            require(getattr(self, field) >= 0, f"objective.{field}", getattr(self, field), "0 or more")
        require(0 <= self.bc_threshold <= 1, "objective.bc_threshold", self.bc_threshold, "in [0, 1]")
        require(self.temperature > 0, "objective.temperature", self.temperature, "above 0")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """What changes while training goes on. All of it is a function of the step."""

    unit: Literal["steps", "run"]
    """Whether ramps count ELBO steps (the paper) or shares of the run (so that a shorter run shrinks them all)."""
    capacity_ramp: float
    """How long C_z and C_u rise from 0."""
    attention_ramp: float
    """How long the attention slope rises from 1."""
    attention_slope: float = 8.0
    """Steepness of the attention's sigmoid at the end of the ramp, in evaluation and in the export."""
    learning_rate: Literal["plateau", "cosine"]
    """Halve the rates when an epoch's loss stops falling (the paper), or let them fall to zero as a cosine."""
    plateau_patience: int = 2
    """Epochs without a gain before a rate is halved."""
    supervised_cooldown: int = 3
    """Epochs that the supervised rate rests after it was halved."""

    def __post_init__(self) -> None:
        """Check what the dataclass cannot say."""
        require_choice(self, "schedule", unit=("steps", "run"), learning_rate=("plateau", "cosine"))
        for field in ("capacity_ramp", "attention_ramp", "attention_slope"):
            require(getattr(self, field) > 0, f"schedule.{field}", getattr(self, field), "above 0")
        for field in ("plateau_patience", "supervised_cooldown"):
            require(getattr(self, field) >= 0, f"schedule.{field}", getattr(self, field), "0 or more")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Two Adam optimisers (appendix D): one for the ELBO step, one for the supervised step."""

    learning_rate: float
    """Of the ELBO step (Table 6)."""
    supervised_learning_rate: float
    """Of the supervised step. With less than the ELBO step's the entropy term can win and q(c) collapses."""
    prior_rate_factor: float = 1.0
    """The ELBO step's rate of the prior's modes, as a multiple of the networks'.

    Adam moves a parameter by about the rate a step: in a short run, modes that begin in each other's place would never
    get out of it.
    """

    def __post_init__(self) -> None:
        """Check what the dataclass cannot say."""
        for field in ("learning_rate", "supervised_learning_rate", "prior_rate_factor"):
            require(getattr(self, field) > 0, f"optimiser.{field}", getattr(self, field), "above 0")


@dataclass(frozen=True, kw_only=True)
class SupervisionConfig:
    """How the few labels are used beyond Eq. 7. All of it is off in the paper's recipe."""

    batch_size: int = 64
    """Labelled images of one supervised step."""
    warm_start_steps: int = 0
    """Supervised steps before the first ELBO step."""
    augment: bool = False
    """Small random rotations, shifts and scales of the labelled images."""
    consistency_weight: float = 0.0
    """Weight of the cross-entropy of an augmented copy against the confident class of the clean image; 0 is off."""
    consistency_cutout: bool = True
    """Whether the augmented copy lacks a patch too; not where a patch can take a class with it (glasses, a hat)."""
    consistency_threshold: float = 0.95
    """Probability above which the clean image's class counts as a label."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights, which is evaluated and exported; 0 is off."""

    def __post_init__(self) -> None:
        """Check what the dataclass cannot say."""
        require(self.batch_size >= 1, "supervision.batch_size", self.batch_size, "at least 1")
        require(0 <= self.ema_decay < 1, "supervision.ema_decay", self.ema_decay, "in [0, 1)")
        require(
            0 < self.consistency_threshold < 1,
            "supervision.consistency_threshold",
            self.consistency_threshold,
            "in (0, 1)",
        )
        for field in ("warm_start_steps", "consistency_weight"):
            require(getattr(self, field) >= 0, f"supervision.{field}", getattr(self, field), "0 or more")


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """What the baselines of Table 1 need beside the networks."""

    weight: float = 1.0
    """beta of beta-VAE and beta-TCVAE, gamma of FactorVAE."""

    def __post_init__(self) -> None:
        """Check what the dataclass cannot say."""
        require(self.weight >= 0, "baseline.weight", self.weight, "0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a run. Two runs of one configuration on one machine give the same weights."""

    dataset: str
    """Name of the data set."""
    recipe: str
    """Name of the recipe that this configuration started from."""
    seed: int = 0
    """Of weights, batches, noise and augmentation."""
    method: MethodName = "partedvae"
    """What is minimised: PartedVAE's objective, a baseline's, or the labels' cross-entropy alone ("classifier")."""
    labels: int
    """Labelled images; 0 trains without any."""
    labelled: str = "first"
    """Which images are the labelled ones: first, stratified, balanced, or file:PATH with their indices or, in a folder,
    names."""
    priors: Literal["given", "uniform", "estimated"] = "given"
    """p(c_k): the data set's own where it has one (else uniform), uniform, or estimated from the labels."""
    epochs: int
    """Epochs: passes over the training images, or over `epoch_images` of them."""
    epoch_images: int = 0
    """Images of an epoch, for data sets whose pass takes an hour; 0 is all of them."""
    batch_size: int
    """Images of one ELBO step, of all processes together."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Arithmetic of the networks; bf16-mixed is for GPUs."""
    train_images: int = 0
    """Use only the first so many training images; 0 uses all."""
    model: ModelConfig
    """Architecture."""
    objective: ObjectiveConfig
    """Loss weights."""
    schedule: ScheduleConfig
    """Ramps and learning-rate schedule."""
    optimiser: OptimiserConfig
    """Learning rates."""
    supervision: SupervisionConfig
    """Use of the labels."""
    baseline: BaselineConfig = BaselineConfig()
    """Weights of the baselines; unused by PartedVAE."""

    def __post_init__(self) -> None:
        """Check what the dataclass cannot say."""
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2")
        require_choice(self, "", method=METHODS, priors=("given", "uniform", "estimated"))
        require_choice(self, "", precision=("32-true", "bf16-mixed"))
        check_way(self.labelled)
        if self.method in NEED_FACTORS and not self.model.factors:
            raise ValueError(f"method {self.method!r} needs a labelled factor, and {self.dataset!r} has none")
        if self.method not in NEED_FACTORS and self.labels:
            raise ValueError(f"method {self.method!r} uses no labels; leave --labels out, or 0")
        if self.method == "classifier" and not self.labels:
            raise ValueError("method 'classifier' learns from labels alone; give it some with --labels")
        for field in ("seed", "labels", "train_images", "epoch_images"):
            require(getattr(self, field) >= 0, field, getattr(self, field), "0 or more")
        require(self.seed < 2**62, "seed", self.seed, "less than 2**62")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Return the configuration of a dictionary made by `to_dict`, also by that of earlier versions."""
        values = current_config(values)
        model = dict(values["model"])
        model["factors"] = tuple(FactorConfig(**_tuples(factor)) for factor in model["factors"])
        sections: dict[str, Any] = {
            "model": ModelConfig(**_tuples(model)),
            "objective": ObjectiveConfig(**values["objective"]),
            "schedule": ScheduleConfig(**values["schedule"]),
            "optimiser": OptimiserConfig(**values["optimiser"]),
            "supervision": SupervisionConfig(**values["supervision"]),
            "baseline": BaselineConfig(**values["baseline"]),
        }
        return cls(**{**values, **sections})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
