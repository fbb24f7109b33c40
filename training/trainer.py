"""One step of training: the supervised step (Eq. 7), then the ELBO step (Eq. 6), and the state they change."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from training.augment import random_affine
from training.averaging import averaged
from training.batches import Batches
from training.config import TrainConfig
from training.data.dataset import Images, Split
from training.model import PartedVAE
from training.networks import preprocess
from training.objective import consistency_loss, elbo_terms, supervised_loss, total_loss
from training.schedules import schedule_at


class StepLosses(NamedTuple):
    """What one step reports; means over its batch, in nats."""

    loss: Tensor
    """What the ELBO step minimises, without the consistency term."""
    reconstruction: Tensor
    """Reconstruction error summed over pixels."""
    kl_z: Tensor
    """KL of z."""
    kl_u: Tensor
    """KL of u, all class variables."""
    entropy: Tensor
    """H(q(c | x)), all class variables."""
    prior_mismatch: Tensor
    """KL(q(c) || p(c)), all class variables."""
    overlap: Tensor
    """Overlap of the prior's modes."""
    supervised: Tensor
    """Cross-entropy of the labelled batch; 0 without labels."""
    consistency: Tensor
    """Consistency loss before its weight; 0 where it is off."""


class Trainer:
    """Model, optimisers, schedulers and step counter of a run."""

    def __init__(
        self, config: TrainConfig, train: Split, labelled: Int[Tensor, " labels"], device: torch.device
    ) -> None:
        """Build the model and plan the batches.

        Args:
            config: the run's configuration; torch must be seeded already.
            train: the training images; labels other than those of `labelled` are never read.
            labelled: indices of the images whose labels may be used; they stay in the unlabelled stream as well.
            device: where to train.
        """
        self.config = config
        self.device = device
        # In memory, images go to the device once; others come when a step asks for them.
        self.images = train.images.to(device) if isinstance(train.images, Tensor) else train.images
        self.labelled_images = train.images[labelled].to(device)
        self.labels = train.labels[labelled].to(device)
        self.batches = Batches(len(train), config.batch_size, 2 * config.seed)
        self.model = PartedVAE(config.model).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = averaged(self.model, config.supervision.ema_decay) if config.supervision.ema_decay else None
        rates = config.optimiser
        self.elbo_optimiser = Adam(self.model.parameters(), rates.learning_rate, fused=True)
        classifier = self.model.classifier_parameters()
        self.supervised_optimiser = Adam(classifier, rates.supervised_learning_rate, fused=True)
        patience = config.schedule.plateau_patience
        # Relative thresholds and cooldowns of the authors' code; the paper names only the scheduler (appendix D).
        self.elbo_plateau = ReduceLROnPlateau(
            self.elbo_optimiser, factor=0.5, patience=patience, threshold=0.01, cooldown=4
        )
        self.supervised_plateau = ReduceLROnPlateau(
            self.supervised_optimiser, factor=0.5, patience=patience, threshold=0.1, cooldown=3
        )
        self.step = 0
        self.epoch_sums = torch.zeros(len(StepLosses._fields), dtype=torch.float64, device=device)

    @property
    def total_steps(self) -> int:
        """ELBO steps of the whole run."""
        return self.config.epochs * self.batches.per_pass

    @property
    def final_model(self) -> PartedVAE:
        """The model to evaluate and export: the average of the weights where there is one."""
        return self.model if self.average is None else cast(PartedVAE, self.average.module)

    def warm_start(self) -> None:
        """Do the supervised steps that come before everything else."""
        if len(self.labels):
            batches = self._labelled_batches(2 * self.config.seed + 2**32)
            for step in range(self.config.supervision.warm_start_steps):
                self._supervised_step(batches[step])
        if self.average is not None:
            self.average.update_parameters(self.model)

    def train_step(self) -> StepLosses:
        """Do one supervised and one ELBO step, and count them."""
        schedule = schedule_at(self.step, self.total_steps, self.config.schedule, self.config.objective)
        if self.config.schedule.learning_rate == "cosine":
            rates = self.config.optimiser
            _set_rate(self.elbo_optimiser, rates.learning_rate * schedule.rate_scale)
            _set_rate(self.supervised_optimiser, rates.supervised_learning_rate * schedule.rate_scale)
        supervised = torch.zeros((), device=self.device)
        if len(self.labels):
            supervised = self._supervised_step(self._labelled_batches(2 * self.config.seed + 1)[self.step])
        pixels = self._pixels(self.images, self.batches[self.step])
        objective = self.config.objective
        posterior = self.model.encode(pixels, slope=schedule.attention_slope, temperature=objective.temperature)
        terms = elbo_terms(self.model, pixels, posterior, objective, schedule.attention_slope)
        loss = total_loss(terms, objective, schedule.capacity_z, schedule.capacity_u)
        consistency = self._consistency(pixels)
        self.elbo_optimiser.zero_grad()
        (loss + self.config.supervision.consistency_weight * consistency).backward()
        self.elbo_optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        losses = StepLosses(
            loss=loss,
            reconstruction=terms.reconstruction,
            kl_z=terms.kl_z.mean(),
            kl_u=terms.kl_u.mean(),
            entropy=terms.entropy,
            prior_mismatch=terms.prior_mismatch,
            overlap=terms.overlap,
            supervised=supervised,
            consistency=consistency,
        )
        self.epoch_sums += torch.stack(list(losses)).detach()
        self.step += 1
        return losses

    def end_epoch(self) -> dict[str, float]:
        """Return the epoch's mean losses by name, and let the plateau schedulers look at them."""
        means = (self.epoch_sums / self.batches.per_pass).tolist()
        self.epoch_sums.zero_()
        losses = dict(zip(StepLosses._fields, means, strict=True))
        if self.config.schedule.learning_rate == "plateau":
            self.elbo_plateau.step(losses["loss"])
            if len(self.labels):
                self.supervised_plateau.step(losses["supervised"])
        return losses

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on exactly from here, random state included."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state.update(step=self.step, epoch_sums=self.epoch_sums, rng=torch.get_rng_state())
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step = state["step"]
        self.epoch_sums = state["epoch_sums"].to(self.device)
        torch.set_rng_state(state["rng"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)

    def _parts(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "average": self.average,
            "elbo_optimiser": self.elbo_optimiser,
            "supervised_optimiser": self.supervised_optimiser,
            "elbo_plateau": self.elbo_plateau,
            "supervised_plateau": self.supervised_plateau,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _labelled_batches(self, seed: int) -> Batches:
        return Batches(len(self.labels), self.config.supervision.batch_size, seed)

    def _supervised_step(self, chosen: Int[Tensor, " batch"]) -> Tensor:
        """Update the trunk and the heads of c on labelled images (section 4.5)."""
        pixels = self._pixels(self.labelled_images, chosen)
        if self.config.supervision.augment:
            pixels = random_affine(pixels)
        loss = supervised_loss(self.model.class_logits(pixels), self.labels[chosen])
        self.supervised_optimiser.zero_grad()
        loss.backward()
        self.supervised_optimiser.step()
        return loss.detach()

    def _consistency(self, pixels: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Teach the class of an augmented copy; without labels there is no class to be consistent with."""
        supervision = self.config.supervision
        if not (supervision.consistency_weight and len(self.labels)):
            return torch.zeros((), device=self.device)
        with torch.no_grad():
            teacher = self.final_model.class_logits(pixels)
        student = self.model.class_logits(random_affine(pixels))
        return consistency_loss(teacher, student, supervision.consistency_threshold)

    def _pixels(self, images: Images, chosen: Tensor) -> Tensor:
        chosen = chosen.to(self.device) if isinstance(images, Tensor) else chosen
        return preprocess(images[chosen].to(self.device), self.config.model.network_size)


def _set_rate(optimiser: Adam, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
