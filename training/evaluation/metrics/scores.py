"""All disentanglement scores of a representation, and their form in a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from partedvae.training.evaluation.metrics.dci import DCI, Predictor, dci
from partedvae.training.evaluation.metrics.factor_paper import factor_paper
from partedvae.training.evaluation.metrics.factor_vae import factor_vae
from partedvae.training.evaluation.metrics.mig import MIG, mig
from partedvae.training.evaluation.metrics.sap import SAP, sap
from partedvae.training.evaluation.metrics.votes import FactorScore


@dataclass(frozen=True, kw_only=True)
class DisentanglementScores:
    """Disentanglement scores of a representation."""

    images: int
    """Number of images."""
    factors: tuple[str, ...]
    """Names of the true factors that vary, in the order of the columns of every table."""
    factor_vae: FactorScore
    """Kim and Mnih 2018, as computed by disentanglement_lib."""
    factor_paper: FactorScore
    """The same score as computed by the authors of PartedVAE, for comparison with the paper's Tables 1 and 2."""
    mig: MIG
    """Chen et al. 2018."""
    dci: DCI
    """Eastwood and Williams 2018."""
    sap: SAP
    """Kumar et al. 2018."""

    def summary(self) -> dict[str, float]:
        """Return one number per score, by name."""
        return {
            "factor_vae": self.factor_vae.score,
            "factor_paper": self.factor_paper.score,
            "mig": self.mig.score,
            "dci_disentanglement": self.dci.disentanglement,
            "dci_completeness": self.dci.completeness,
            "dci_informativeness": self.dci.informativeness,
            "sap": self.sap.score,
        }

    def report(self) -> dict[str, Any]:
        """Return all scores as JSON types; tables have one row per dimension and one column per factor."""
        return {
            "images": self.images,
            "factors": list(self.factors),
            "scores": self.summary(),
            "dci_predictor": self.dci.predictor,
            "mig_by_factor": dict(zip(self.factors, self.mig.gaps.tolist(), strict=True)),
            "sap_by_factor": dict(zip(self.factors, self.sap.gaps.tolist(), strict=True)),
            "tables": {
                "factor_vae_votes": self.factor_vae.votes.T.tolist(),
                "factor_paper_votes": self.factor_paper.votes.T.tolist(),
                "mutual_information": self.mig.information.tolist(),
                "importance": self.dci.importance.tolist(),
                "sap_accuracy": self.sap.accuracy.tolist(),
            },
            "active_dims": {
                "factor_vae": self.factor_vae.active.tolist(),
                "factor_paper": self.factor_paper.active.tolist(),
            },
        }


def disentanglement_scores(
    representation: Float[np.ndarray, "images dims"],
    values: Int[np.ndarray, "images factors"],
    names: tuple[str, ...],
    seed: int,
    dci_predictor: Predictor = "forest",
) -> DisentanglementScores:
    """Compute all scores; each has its own random numbers from the seed.

    Args:
        representation: means of z and u of all images (`Representation.joined`).
        values: true factors of the same images, counted from 0.
        names: names of the true factors.
        seed: random seed.
        dci_predictor: classifiers that give the importances of DCI.

    Raises:
        ValueError: no factor has two values, or none has a value with the 100 images that `factor_paper` needs.
    """
    varying = np.flatnonzero(values.max(axis=0) > values.min(axis=0))
    if not len(varying):
        raise ValueError(f"none of the factors {names} has two values among {len(values)} images")
    truth = values[:, varying]
    rngs = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)]
    return DisentanglementScores(
        images=len(representation),
        factors=tuple(names[k] for k in varying),
        factor_vae=factor_vae(representation, truth, rngs[0]),
        factor_paper=factor_paper(representation, truth, rngs[1]),
        mig=mig(representation, truth, rngs[2]),
        dci=dci(representation, truth, rngs[3], dci_predictor),
        sap=sap(representation, truth, rngs[4]),
    )
