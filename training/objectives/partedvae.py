"""PartedVAE's objective (Eq. 6, A.5), with the additional terms that a recipe may enable."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partedvae.training.config.schedules import Schedule
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.augment import cutout, random_affine
from partedvae.training.data.dataset import UNLABELLED
from partedvae.training.data.visibility import visibility_tables
from partedvae.training.distributed import DistributedContext
from partedvae.training.model.partedvae import PartedVAE, Posterior
from partedvae.training.objectives.adversary import ClassAdversary
from partedvae.training.objectives.method import MethodOutput
from partedvae.training.objectives.regularisers import (
    class_error,
    consistency_loss,
    contrast_loss,
    cycle_error,
    exchange,
)
from partedvae.training.objectives.terms import elbo_terms, total_loss


class PartedVAEMethod:
    """The ELBO step of PartedVAE, and the adversary that is trained after it where the recipe has one."""

    term_names = (
        "reconstruction",
        "kl_z",
        "kl_u",
        "entropy",
        "kl_c",
        "bhattacharyya",
        "consistency",
        "exchange",
        "cycle",
        "adversary",
        "contrast",
    )

    def __init__(
        self,
        config: TrainConfig,
        context: DistributedContext,
        device: torch.device,
        labels: Int[Tensor, "labelled factors"],
    ) -> None:
        """Create the method.

        Args:
            config: configuration of the run.
            context: the processes that train together.
            device: device of the adversary.
            labels: class indices of the labelled images, -1 where unknown. The classes of a factor without labels are
                clusters, which no image has to show and z may have.
        """
        sizes = [len(factor.classes) for factor in config.model.factors]
        self.labelled_factors = (labels != UNLABELLED).any(dim=0).tolist()
        self.visible = [[table.to(device) for table in row] for row in visibility_tables(labels.cpu(), sizes)]
        self.objective = config.objective
        self.supervision = config.supervision
        # Without labels the classes have no meaning to be consistent with.
        self.consistent = config.supervision.consistency_weight > 0 and config.labels > 0
        self.context = context
        labelled_sizes = [size for size, counts in zip(sizes, self.labelled_factors, strict=True) if counts]
        adversarial = config.objective.gamma_adversary > 0 and any(self.labelled_factors)
        self.adversary = ClassAdversary(config.model.z_dim, labelled_sizes, context, device) if adversarial else None

    def losses(
        self, model: PartedVAE, pixels: Float[Tensor, "batch channels height width"], schedule: Schedule
    ) -> MethodOutput:
        """Encode with relaxed classes, sample u and z, decode, and sum the weighted terms."""
        objective, slope = self.objective, schedule.attention_slope
        posterior = model.encode(pixels, slope=slope, temperature=objective.temperature, noise=self.context.noise)
        terms = elbo_terms(model, pixels, posterior, objective, slope, self.context)
        elbo = total_loss(terms, objective, schedule.capacity_z, schedule.capacity_u, self.context, schedule.opened_z)
        # Each of these costs time, and is not computed where its gamma is zero; the adversary learns from the start.
        zero = torch.zeros((), device=pixels.device)
        consistency = self._consistency(model, pixels, posterior) if self.consistent else zero
        exchanged_error, cycle = self._exchange(model, posterior) if schedule.separation else (zero, zero)
        information = self._adversary(posterior) if self.adversary else zero
        contrast = self._contrast(model, pixels, posterior, slope) if objective.gamma_contrast else zero
        loss = (
            elbo
            + self.supervision.consistency_weight * consistency
            + schedule.separation * objective.gamma_exchange * exchanged_error
            + schedule.separation * objective.gamma_cycle * cycle
            + schedule.separation * objective.gamma_adversary * information
            + objective.gamma_contrast * contrast
        )
        reported = {
            "reconstruction": terms.reconstruction,
            "kl_z": terms.kl_z.sum(dim=-1).mean(),
            "kl_u": terms.kl_u.mean(),
            "entropy": terms.entropy,
            "kl_c": terms.kl_c,
            "bhattacharyya": terms.bhattacharyya,
            "consistency": consistency,
            "exchange": exchanged_error,
            "cycle": cycle,
            "adversary": information,
            "contrast": contrast,
        }
        return MethodOutput(loss, reported)

    def after_step(self) -> None:
        """Train the adversary."""
        if self.adversary:
            self.adversary.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the adversary; empty without one."""
        return {"adversary": self.adversary.state_dict()} if self.adversary else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        if self.adversary:
            self.adversary.load_state_dict(state["adversary"])

    def _exchange(self, model: PartedVAE, posterior: Posterior) -> tuple[Tensor, Tensor]:
        """Return the class error and the cycle error of exchanged images; zero where the weight is."""
        objective, zero = self.objective, torch.zeros((), device=posterior.hidden.device)
        if not (objective.gamma_exchange or objective.gamma_cycle):
            return zero, zero
        exchanged = exchange(model, posterior, self.visible, self.context.noise)
        error = class_error(model, exchanged, self.context.noise) if objective.gamma_exchange else zero
        return error, cycle_error(model, exchanged) if objective.gamma_cycle else zero

    def _adversary(self, posterior: Posterior) -> Tensor:
        assert self.adversary is not None
        counted = zip(posterior.factors, self.labelled_factors, strict=True)
        return self.adversary.information(posterior.z, [q.probs for q, counts in counted if counts])

    def _contrast(self, model: PartedVAE, pixels: Tensor, posterior: Posterior, slope: float) -> Tensor:
        """Return the contrast of u between the images of this rank and an augmented copy of each."""
        noise = self.context.noise
        copies = model.encode(
            random_affine(pixels, noise), slope=slope, temperature=self.objective.temperature, noise=noise
        )
        return contrast_loss(posterior.u_mean, copies.u_mean)

    def _consistency(self, model: PartedVAE, pixels: Tensor, posterior: Posterior) -> Tensor:
        """Return the consistency loss of augmented copies; the teacher's logits are those of the ELBO step."""
        teacher = [factor.logits for factor in posterior.factors]
        copies = random_affine(pixels, self.context.noise)
        if self.supervision.consistency_cutout:
            copies = cutout(copies, self.context.noise)
        student = model.class_logits(copies)
        return consistency_loss(teacher, student, self.supervision.consistency_threshold)
