"""Training steps: steps of the method, each or every n-th after a supervised step (Eq. 7), and the training state."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from partedvae.training.config.old_names import current_epoch_sums
from partedvae.training.config.schedules import schedule_at
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.augment import random_affine
from partedvae.training.data.dataset import Images, Split
from partedvae.training.data.sampler import Batches, JoinedBatches
from partedvae.training.distributed import DistributedContext
from partedvae.training.engine.clipping import GradientClipper
from partedvae.training.engine.ema import ema_of
from partedvae.training.engine.groups import GroupLabels
from partedvae.training.model.networks import preprocess
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.registry import make_method
from partedvae.training.objectives.terms import supervised_loss

RATE_FACTOR = "rate_factor"
"""Key of the learning-rate factor of a parameter group."""
SUPERVISED_START = 0.1
"""Fraction of a run with a supervised step before every step, whatever `supervision.every` is. With fewer, the first
steps of the ELBO removed the shapes of dSprites from the classifier, and they did not come back."""


class Trainer:
    """Model, EMA, method, optimisers, learning-rate schedulers and step counter of a run."""

    def __init__(
        self,
        config: TrainConfig,
        train: Split,
        labelled: Int[Tensor, " labels"],
        context: DistributedContext,
        groups: GroupLabels | None = None,
    ) -> None:
        """Create the model and all other parts. PyTorch must have been seeded, with the same seed on all processes.

        Args:
            config: the configuration of the run.
            train: the training images; labels other than those of `labelled` are not read.
            labelled: indices of the images whose labels are used; they are in the unlabelled batches as well.
            context: the processes that train together.
            groups: labels of groups, for at least half of every supervised batch; None without.
        """
        self.config = config
        self.context = context
        self.device = context.device
        # Images in memory are copied to the device once; others are loaded per step.
        self.images = train.images.to(self.device) if isinstance(train.images, Tensor) else train.images
        own = train.labels[labelled]
        self.own_labels = len(own)
        # Those of groups are many, and are taken from `images` step by step.
        self.group_images = torch.empty(0, dtype=torch.int64) if groups is None else groups.images
        self.labelled_images = train.images[labelled].to(self.device)
        self.labels = (own if groups is None else torch.cat([own, groups.labels])).to(self.device)
        self.batches = Batches(len(train), config.batch_size, 2 * config.seed)
        self.labelled_batches = self._labelled_batches(2 * config.seed + 1)
        self.steps_per_epoch = Batches(config.epoch_images or len(train), config.batch_size, 0).per_pass
        # Every epoch has a supervised step, so that its loss has a mean.
        self.every = min(config.supervision.every, self.steps_per_epoch)
        # The stubs of PyTorch have this overload for tensors only.
        self.model = PartedVAE(config.model).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
        self.method = make_method(config, context, self.device, len(train), own.to(self.device))
        self.ema = ema_of(self.model, config.supervision.ema_decay) if config.supervision.ema_decay else None
        rates, patience = config.optimiser, config.schedule.plateau_patience
        self.optimiser = Adam(
            [
                {"params": self.model.network_parameters(), RATE_FACTOR: 1.0},
                {"params": self.model.prior_parameters(), RATE_FACTOR: rates.prior_rate_factor},
            ],
            fused=True,
        )
        _set_rate(self.optimiser, rates.learning_rate)
        self.clipper = GradientClipper(rates.clip_factor, self.device) if rates.clip_factor else None
        self.supervised_optimiser = Adam(self.model.classifier_parameters(), rates.supervised_learning_rate, fused=True)
        # Thresholds and cooldowns of the authors' code; the paper names only the scheduler (appendix D).
        self.plateau = ReduceLROnPlateau(self.optimiser, factor=0.5, patience=patience, threshold=0.01, cooldown=4)
        self.supervised_plateau = ReduceLROnPlateau(
            self.supervised_optimiser,
            factor=0.5,
            patience=patience,
            threshold=0.1,
            cooldown=config.schedule.supervised_cooldown,
        )
        self.step = 0
        self.loss_names = ("loss", *(self.method.term_names if self.method else ()), "supervised")
        self.epoch_sums = torch.zeros(len(self.loss_names), dtype=torch.float64, device=self.device)

    @property
    def total_steps(self) -> int:
        """Number of steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def final_model(self) -> PartedVAE:
        """The model to evaluate and export: the EMA where it is enabled."""
        return self.model if self.ema is None else cast(PartedVAE, self.ema.module)

    def warm_start(self) -> None:
        """Run the supervised warm-up steps before the first training step."""
        if self.labelled_batches is not None:
            batches = self._labelled_batches(2 * self.config.seed + 2**32)
            assert batches is not None
            for step in range(self.config.supervision.warm_start_steps):
                self._supervised_step(batches[step])
        if self.ema is not None:
            self.ema.update_parameters(self.model)

    def train_step(self) -> dict[str, Tensor]:
        """Run the supervised step, if one is due, and one step of the method; return the losses by name, in nats.

        The losses of a step without a supervised one lack "supervised"; without labels it is 0.
        """
        schedule = schedule_at(self.step, self.total_steps, self.config.schedule, self.config.objective)
        if self.config.schedule.learning_rate == "cosine":
            rates = self.config.optimiser
            _set_rate(self.optimiser, rates.learning_rate * schedule.rate_scale)
            _set_rate(self.supervised_optimiser, rates.supervised_learning_rate * schedule.rate_scale)
        supervised = torch.zeros((), device=self.device)
        batch = self._supervised_steps(self.step)
        skipped = self.labelled_batches is not None and self._supervised_steps(self.step + 1) == batch
        if self.labelled_batches is not None and not skipped:
            supervised = self._supervised_step(self.labelled_batches[batch])
        if self.method is None:
            losses = {"loss": supervised, "supervised": supervised}
        else:
            pixels = self._pixels(self.images, self.context.shard(self.batches[self.step]))
            with self.context.autocast():
                total, terms = self.method.losses(self.model, pixels, schedule)
            self._update(self.optimiser, total, self.clipper)
            self.method.after_step()
            losses = {"loss": total, **terms, "supervised": supervised}
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        losses = {name: losses[name].detach() for name in self.loss_names}
        self.epoch_sums += torch.stack(list(losses.values()))
        self.step += 1
        if skipped:
            del losses["supervised"]
        return losses

    def summed_losses(self) -> dict[str, float]:
        """Return the sums of the losses since the start of the epoch, by name, averaged over all processes."""
        sums = self.context.mean(self.epoch_sums).tolist()
        return dict(zip(self.loss_names, sums, strict=True))

    def end_epoch(self) -> dict[str, float]:
        """Return the mean losses of the epoch by name, over all processes, and update the plateau schedulers.

        The mean of the supervised loss is that over the steps that had one.
        """
        counts = torch.full_like(self.epoch_sums, self.steps_per_epoch)
        counts[self.loss_names.index("supervised")] = self._supervised_steps_of_epoch()
        means = self.context.mean(self.epoch_sums / counts).tolist()
        self.epoch_sums.zero_()
        losses = dict(zip(self.loss_names, means, strict=True))
        if self.config.schedule.learning_rate == "plateau":
            self.plateau.step(losses["loss"])
            if self.labelled_batches is not None:
                self.supervised_plateau.step(losses["supervised"])
        return losses

    def state_dict(self) -> dict[str, Any]:
        """Return the complete training state, including the states of the random number generators."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        sums = dict(zip(self.loss_names, self.epoch_sums.tolist(), strict=True))
        state.update(step=self.step, epoch_sums=sums, rng=torch.get_rng_state())
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a training state; on the device that it was saved on, training continues exactly as it would have.

        Of several processes, all continue with the adversary's last batches of the first one. On another device the
        random numbers differ. The state of a CPU has none of a GPU's generator, which is seeded by the step, so that it
        does not repeat the noise of the first steps.
        """
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step = state["step"]
        sums = current_epoch_sums(state["epoch_sums"], self.loss_names)
        self.epoch_sums = torch.tensor([sums.get(name, 0.0) for name in self.loss_names], dtype=torch.float64).to(
            self.device
        )
        torch.set_rng_state(state["rng"].cpu())
        if self.device.type == "cuda":
            if "cuda_rng" in state:
                torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)
            else:
                torch.cuda.manual_seed(self.config.seed + self.step)

    def _parts(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "method": self.method,
            "average": self.ema,  # the key in stored checkpoints
            "optimiser": self.optimiser,
            "clipper": self.clipper,
            "supervised_optimiser": self.supervised_optimiser,
            "plateau": self.plateau,
            "supervised_plateau": self.supervised_plateau,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _labelled_batches(self, seed: int) -> Batches | JoinedBatches | None:
        """Return the labelled batches; None without labels or for a method without classes."""
        if not (self.own_labels and self.config.model.factors):
            return None
        size, grouped = self.config.supervision.batch_size, len(self.group_images)
        # Full batches: an image of a small one would weigh more.
        if not grouped or size == 1:
            return Batches(self.own_labels, size, seed, full=True)
        own = Batches(self.own_labels, size // 2, seed, full=True)
        return JoinedBatches(own, Batches(grouped, size - own.batch_size, seed, full=True))

    def _supervised_steps_of_epoch(self) -> int:
        """Return the number of supervised steps in the epoch that ends at the current step."""
        return self._supervised_steps(self.step) - self._supervised_steps(self.step - self.steps_per_epoch)

    def _supervised_steps(self, step: int) -> int:
        """Return the number of supervised steps before a step: one per step at first, then one per `every` steps."""
        first = min(step, int(SUPERVISED_START * self.total_steps))
        return first - (first - step) // self.every

    def _supervised_step(self, chosen: Int[Tensor, " batch"]) -> Tensor:
        """Update the trunk and the classifier heads on labelled images (section 4.5).

        A batch that does not divide evenly is processed whole by every process.
        """
        chosen = self.context.shard(chosen) if len(chosen) % self.context.world_size == 0 else chosen
        of_groups = self.group_images[chosen[chosen >= self.own_labels] - self.own_labels]
        sources = ((self.labelled_images, chosen[chosen < self.own_labels]), (self.images, of_groups))
        parts = [self._pixels(images, indices) for images, indices in sources if len(indices)]
        pixels = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self.config.supervision.augment:
            pixels = random_affine(pixels, self.context.noise)
        with self.context.autocast():
            loss = supervised_loss(self.model.class_logits(pixels), self.labels[chosen.to(self.device)], self.context)
        self._update(self.supervised_optimiser, loss)
        return loss.detach()

    def _update(self, optimiser: Adam, loss: Tensor, clipper: GradientClipper | None = None) -> None:
        optimiser.zero_grad()
        loss.backward()
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        self.context.average_gradients(parameters)
        if clipper is not None:
            clipper.clip(parameters)
        optimiser.step()

    def _pixels(self, images: Images, chosen: Tensor) -> Tensor:
        chosen = chosen.to(self.device) if isinstance(images, Tensor) else chosen
        return preprocess(images[chosen].to(self.device), self.config.model.network_size)


def _set_rate(optimiser: Adam, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get(RATE_FACTOR, 1.0)
