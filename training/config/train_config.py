"""Configuration of a run: frozen dataclasses, validated on creation and stored as JSON in the run directory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from partedvae.common.fit import DEFAULT_FIT, FITS, Fit
from partedvae.common.runs.old_names import current_config
from partedvae.training.config.architecture import FactorConfig, ModelConfig
from partedvae.training.config.validation import require, require_choice
from partedvae.training.data.labelled import check_way
from partedvae.training.data.names import check_fit

MethodName = Literal["partedvae", "classifier", "vae", "beta-vae", "beta-tcvae", "factor-vae"]
METHODS = get_args(MethodName)
Precision = Literal["auto", "32-true", "bf16-mixed"]
NEED_FACTORS = ("partedvae", "classifier")
"""Methods with class variables; the others have z alone."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the objective (Eq. 6, A.5); Table 6 has the values of the paper."""

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
    """Weight of the Bhattacharyya coefficients of the mixture prior's modes; 0 is the paper's ablation without BC."""
    gamma_exchange: float = 0.0
    """Weight of the classification error of images decoded with an exchanged u, or of samples of the priors
    (`objectives/regularisers.py`); not in the paper."""
    gamma_cycle: float = 0.0
    """Weight of the change of z between images that were decoded from one z (same module); not in the paper."""
    gamma_adversary: float = 0.0
    """Weight of the information that an adversary finds in z about the classes (`objectives/adversary.py`); not in the
    paper."""
    gamma_contrast: float = 0.0
    """Weight of the contrast of u between images, of which an augmented copy has the same
    (`objectives/regularisers.py`); not in the paper."""
    bc_threshold: float
    """delta: largest Bhattacharyya coefficient without a penalty."""
    capacity_z: float
    """C_z at the end of its ramp, in nats."""
    capacity_u: float
    """C_u at the end of its ramp, in nats."""
    capacity_penalty: Literal["absolute", "hinge"] = "absolute"
    """gamma |KL - C| (Eq. 6), which raises the KL to C; or KL + gamma max(KL - C, 0), the ELBO up to C."""
    beta_z: float = 1.0
    """Weight of the KL of an open dimension of z, with the hinge (beta-VAE); it also holds above C_z."""
    beta_z_closed: float = 10.0
    """Weight of the KL of a dimension of z that is not open yet (`schedule.z_opening`), with the hinge."""
    capacity_of: Literal["batch", "image"] = "batch"
    """|C - KL| of the mean KL of the batch (the authors' code), or the mean over images of |C - KL| (Eq. 6)."""
    kl_u: Literal["sampled", "matched"] = "sampled"
    """KL of u given the one sampled c' to every mode (the authors' code), or given each c to its mode (Eq. 2)."""
    temperature: float = 0.67
    """Temperature of the Gumbel-softmax."""

    def __post_init__(self) -> None:
        """Validate the values."""
        require_choice(self, "objective", reconstruction=("bce", "l1"), capacity_of=("batch", "image"))
        require_choice(self, "objective", kl_u=("sampled", "matched"))
        require_choice(self, "objective", capacity_penalty=("absolute", "hinge"))
        weights = [field.name for field in dataclasses.fields(self) if field.name.startswith("gamma_")]
        for field in (*weights, "capacity_z", "capacity_u", "beta_z", "beta_z_closed"):
            require(getattr(self, field) >= 0, f"objective.{field}", getattr(self, field), "0 or more")
        if self.capacity_penalty == "absolute":
            require(self.beta_z == 1, "objective.beta_z", self.beta_z, "1 with objective.capacity_penalty=absolute")
        require(0 <= self.bc_threshold <= 1, "objective.bc_threshold", self.bc_threshold, "in [0, 1]")
        require(self.temperature > 0, "objective.temperature", self.temperature, "above 0")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Schedules, as functions of the step."""

    unit: Literal["steps", "run"]
    """Unit of the ramps: ELBO steps (the paper), or fractions of the run (so that they scale with its length)."""
    capacity_ramp: float
    """Length of the ramp of C_z and C_u."""
    capacity_start: float = 0.0
    """C_z and C_u at step 0, as a share of their final values."""
    z_opening: float = 0.0
    """Share of the run after which each further dimension of z opens, the first at step 0; with 0, all are open. The
    weight of its KL falls from `objective.beta_z_closed` to `objective.beta_z` (Jeong and Song 2019). Hinge only."""
    separation_start: float = 0.0
    """Share of the run after which the terms exchange, cycle and adversary begin; their weights rise over a tenth."""
    attention_ramp: float
    """Length of the ramp of the attention slope from 1."""
    attention_slope: float = 8.0
    """Steepness of the attention's sigmoid at the end of its ramp, in evaluation and in exported models."""
    learning_rate: Literal["plateau", "cosine"]
    """Halve the rates when the loss of an epoch stops falling (the paper), or decay them to zero with a cosine."""
    plateau_patience: int = 2
    """Epochs without improvement before a rate is halved."""
    supervised_cooldown: int = 3
    """Epochs after halving the supervised rate before it may be halved again."""

    def __post_init__(self) -> None:
        """Validate the values."""
        require_choice(self, "schedule", unit=("steps", "run"), learning_rate=("plateau", "cosine"))
        for field in ("capacity_ramp", "attention_ramp", "attention_slope"):
            require(getattr(self, field) > 0, f"schedule.{field}", getattr(self, field), "above 0")
        require(self.capacity_start >= 0, "schedule.capacity_start", self.capacity_start, "0 or more")
        require(0 <= self.z_opening < 1, "schedule.z_opening", self.z_opening, "in [0, 1)")
        require(0 <= self.separation_start < 1, "schedule.separation_start", self.separation_start, "in [0, 1)")
        for field in ("plateau_patience", "supervised_cooldown"):
            require(getattr(self, field) >= 0, f"schedule.{field}", getattr(self, field), "0 or more")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Two Adam optimisers (appendix D): one for the ELBO step, one for the supervised step."""

    learning_rate: float
    """Learning rate of the ELBO step (Table 6)."""
    supervised_learning_rate: float
    """Learning rate of the supervised step. Below that of the ELBO step, the entropy term can make q(c) collapse."""
    prior_rate_factor: float = 1.0
    """Learning rate of the prior's modes in the ELBO step, as a multiple of that of the networks.

    Adam moves a parameter by about the learning rate per step: in a short run, modes that start at the positions of
    other classes could not leave them.
    """
    clip_factor: float = 0.0
    """Largest norm of the gradient of an ELBO step, as a multiple of its moving average (`engine/clipping.py`); 0 does
    not clip."""

    def __post_init__(self) -> None:
        """Validate the values."""
        for field in ("learning_rate", "supervised_learning_rate", "prior_rate_factor"):
            require(getattr(self, field) > 0, f"optimiser.{field}", getattr(self, field), "above 0")
        clip = self.clip_factor
        # With 1 or less, the average could never rise.
        require(clip == 0 or clip > 1, "optimiser.clip_factor", clip, "0 or above 1")


@dataclass(frozen=True, kw_only=True)
class SupervisionConfig:
    """Use of the labels beyond Eq. 7; all of it is disabled in the recipe `paper`."""

    batch_size: int = 64
    """Labelled images per supervised step."""
    warm_start_steps: int = 0
    """Supervised steps before the first ELBO step."""
    every: int = 1
    """n: a supervised step before every n-th ELBO step, and before each of the first tenth of the run. The method
    classifier has no others."""
    augment: bool = False
    """Whether to augment the labelled images with small random rotations, shifts and scales."""
    consistency_weight: float = 0.0
    """Weight of the cross-entropy of an augmented copy against the confident class of its original; 0 disables it."""
    consistency_cutout: bool = True
    """Whether to apply cutout to the augmented copy; not suitable if a patch can cover a class (glasses, a hat)."""
    consistency_threshold: float = 0.95
    """Probability above which the class of the original is used as a pseudo-label."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights, which is evaluated and exported; 0 disables it."""

    def __post_init__(self) -> None:
        """Validate the values."""
        for field in ("batch_size", "every"):
            require(getattr(self, field) >= 1, f"supervision.{field}", getattr(self, field), "at least 1")
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
    """Settings of the baselines of Table 1."""

    weight: float = 1.0
    """beta of beta-VAE and beta-TCVAE, gamma of FactorVAE."""

    def __post_init__(self) -> None:
        """Validate the values."""
        require(self.weight >= 0, "baseline.weight", self.weight, "0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Complete configuration of a run. Two runs of it on one machine, with as many threads, have the same weights."""

    dataset: str
    """Name of the data set."""
    fit: Fit = DEFAULT_FIT
    """How images of a folder that have another shape are fitted to the size of the model's: stretch, pad or crop."""
    recipe: str
    """Name of the recipe that the configuration is based on."""
    seed: int = 0
    """Random seed of weights, batches, noise and augmentation."""
    method: MethodName = "partedvae"
    """Training method: PartedVAE, a baseline, or "classifier", which minimises the cross-entropy of labels alone."""
    labels: int
    """Number of labelled images; 0 trains without labels."""
    labelled: str = "first"
    """Selection of the labelled images: first, random, stratified, balanced, or file:PATH with their indices or, for a
    folder, file names."""
    features_run: str = ""
    """Directory of a run of features: other images get the labels of their groups (`engine/groups.py`); "" for none."""
    priors: Literal["given", "uniform", "estimated"] = "given"
    """p(c_k): given by the data set (uniform if it has none), uniform, or estimated from the labels."""
    epochs: int
    """Number of epochs: passes over the training images, or over `epoch_images` of them."""
    epoch_images: int = 0
    """Images per epoch, for data sets with long passes; 0 uses all."""
    batch_size: int
    """Images per ELBO step, over all processes."""
    precision: Precision = "32-true"
    """Precision of the networks; bf16-mixed needs a GPU or a CPU with instructions for it, and "auto" selects it there.

    Losses, sampling and optimisers have 32 bits in both. A run stores the precision that it is trained in.
    """
    train_images: int = 0
    """Number of training images to use, from the first; 0 uses all."""
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
    """Settings of the baselines; not used by PartedVAE."""

    def __post_init__(self) -> None:
        """Validate the values."""
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2")
        require_choice(self, "", method=METHODS, priors=("given", "uniform", "estimated"))
        require_choice(self, "", precision=get_args(Precision), fit=FITS)
        check_fit(self.dataset, None if self.fit == DEFAULT_FIT else self.fit)
        check_way(self.labelled)
        if self.method in NEED_FACTORS and not self.model.factors:
            raise ValueError(f"method {self.method!r} needs a labelled factor, but {self.dataset!r} has none")
        if self.method not in NEED_FACTORS and self.labels:
            raise ValueError(f"method {self.method!r} does not use labels; omit --labels, or pass 0")
        if self.features_run and self.method not in NEED_FACTORS:
            raise ValueError(f"method {self.method!r} does not use labels; omit --features")
        if self.features_run and not self.labels:
            raise ValueError("groups of features get the labels of labelled images; pass --labels, or omit --features")
        if self.method == "classifier" and not self.labels:
            raise ValueError("method 'classifier' is trained on labels alone; pass --labels")
        if self.method == "classifier" and self.supervision.every > 1:
            raise ValueError(
                f"supervision.every is {self.supervision.every}; method 'classifier' has supervised steps alone, so "
                "set it to 1"
            )
        if self.objective.capacity_penalty == "absolute":
            opening = self.schedule.z_opening
            require(opening == 0, "schedule.z_opening", opening, "0 with objective.capacity_penalty=absolute")
        for field in ("seed", "labels", "train_images", "epoch_images"):
            require(getattr(self, field) >= 0, field, getattr(self, field), "0 or more")
        require(self.seed < 2**62, "seed", self.seed, "less than 2**62")

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as values that JSON can represent."""
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
    return {key: _tuple(value) for key, value in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
