"""PartedVAE's objective (Eq. 6, A.5), with the consistency term where a recipe has it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from training.augment import erased, random_affine
from training.config import TrainConfig
from training.methods.method import Losses, Stateless
from training.model import PartedVAE, Posterior
from training.objective import consistency_loss, elbo_terms, total_loss
from training.parallel import Ranks
from training.schedules import Schedule


class PartedVAEMethod(Stateless):
    """The ELBO step of PartedVAE."""

    term_names = ("reconstruction", "kl_z", "kl_u", "entropy", "prior_mismatch", "overlap", "consistency")

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        """Take weights, tolerances and the other processes."""
        self.objective = config.objective
        self.supervision = config.supervision
        # Without labels there is no class to be consistent with.
        self.consistent = config.supervision.consistency_weight > 0 and config.labels > 0
        self.ranks = ranks

    def losses(
        self, model: PartedVAE, pixels: Float[Tensor, "batch channels height width"], schedule: Schedule
    ) -> Losses:
        """Encode with relaxed classes, draw u and z, decode, and weigh every term."""
        objective, slope = self.objective, schedule.attention_slope
        posterior = model.encode(pixels, slope=slope, temperature=objective.temperature, noise=self.ranks.noise)
        terms = elbo_terms(model, pixels, posterior, objective, slope, self.ranks)
        total = total_loss(terms, objective, schedule.capacity_z, schedule.capacity_u, self.ranks)
        consistency = self._consistency(model, pixels, posterior)
        reported = {
            "reconstruction": terms.reconstruction,
            "kl_z": terms.kl_z.mean(),
            "kl_u": terms.kl_u.mean(),
            "entropy": terms.entropy,
            "prior_mismatch": terms.prior_mismatch,
            "overlap": terms.overlap,
            "consistency": consistency,
        }
        return Losses(total + self.supervision.consistency_weight * consistency, reported)

    def _consistency(self, model: PartedVAE, pixels: Tensor, posterior: Posterior) -> Tensor:
        """Teach the class of an augmented copy. Those of the clean images are there already: they cost nothing."""
        if not self.consistent:
            return torch.zeros((), device=pixels.device)
        teacher = [factor.logits for factor in posterior.factors]
        student = model.class_logits(erased(random_affine(pixels, self.ranks.noise), self.ranks.noise))
        return consistency_loss(teacher, student, self.supervision.consistency_threshold)
