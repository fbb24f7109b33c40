"""PartedVAE's objective (Eq. 6, A.5), with the terms that are not the paper's where a recipe has them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from partedvae.training.config.schedules import Schedule
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.augment import erased, random_affine
from partedvae.training.distributed import Ranks
from partedvae.training.model.partedvae import PartedVAE, Posterior
from partedvae.training.objectives.method import Losses, Stateless
from partedvae.training.objectives.regularisers import exchange_loss, leakage
from partedvae.training.objectives.terms import consistency_loss, elbo_terms, total_loss


class PartedVAEMethod(Stateless):
    """The ELBO step of PartedVAE."""

    term_names = (
        "reconstruction",
        "kl_z",
        "kl_u",
        "entropy",
        "prior_mismatch",
        "overlap",
        "consistency",
        "leakage",
        "exchange",
    )

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
        # Each of these takes time, and is left out where it weighs nothing.
        nothing = torch.zeros((), device=pixels.device)
        consistency = self._consistency(model, pixels, posterior) if self.consistent else nothing
        leaked = self._leakage(posterior) if objective.gamma_leakage else nothing
        exchange = exchange_loss(model, posterior, self.ranks.noise) if objective.gamma_exchange else nothing
        total = (
            total
            + self.supervision.consistency_weight * consistency
            + objective.gamma_leakage * leaked
            + objective.gamma_exchange * exchange
        )
        reported = {
            "reconstruction": terms.reconstruction,
            "kl_z": terms.kl_z.mean(),
            "kl_u": terms.kl_u.mean(),
            "entropy": terms.entropy,
            "prior_mismatch": terms.prior_mismatch,
            "overlap": terms.overlap,
            "consistency": consistency,
            "leakage": leaked,
            "exchange": exchange,
        }
        return Losses(total, reported)

    def _leakage(self, posterior: Posterior) -> Tensor:
        images, mean = self.ranks.world * len(posterior.hidden), self.ranks.mean
        return torch.stack([leakage(posterior.z, q.probs, images, mean) for q in posterior.factors]).sum()

    def _consistency(self, model: PartedVAE, pixels: Tensor, posterior: Posterior) -> Tensor:
        """Teach the class of an augmented copy. Those of the clean images are there already: they cost nothing."""
        teacher = [factor.logits for factor in posterior.factors]
        copies = random_affine(pixels, self.ranks.noise)
        if self.supervision.consistency_cutout:
            copies = erased(copies, self.ranks.noise)
        student = model.class_logits(copies)
        return consistency_loss(teacher, student, self.supervision.consistency_threshold)
