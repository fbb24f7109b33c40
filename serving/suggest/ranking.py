"""Ranks the images of a source: which of them may be labelled, by which strategy, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partedvae.common.suggest import did_you_mean
from partedvae.results import FloatArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.suggest.features import ImageFeatures
from partedvae.serving.suggest.pool import Known
from partedvae.serving.suggest.strategies import Strategy, choose_strategy, rank


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Images to label next."""

    names: tuple[str, ...]
    """The images, the most useful first."""
    strategy: Strategy
    """The strategy that ranked them; never auto."""
    images: int
    """Images that were ranked, with those that have a label."""
    labelled: int
    """Those of them that have a label."""
    tests: int
    """Images for testing, which are left out."""
    unreadable: int
    """Images that could not be read, which are left out."""
    unlistable: int
    """Images whose names have a line break, which no list can have, and which are left out."""


def suggest(
    names: Sequence[str],
    features: ImageFeatures,
    known: Known,
    count: int,
    *,
    strategy: Strategy = "auto",
    factor: str | None = None,
    seed: int = 0,
) -> Suggestion:
    """Rank the images without a label.

    Args:
        names: of the images, from `partedvae.serving.suggest.pool.image_names`.
        features: of the images, in the same order.
        known: which of them have a label.
        count: number of images; fewer are returned where fewer have no label.
        strategy: how to rank.
        factor: the factor that is to be labelled; None for all.
        seed: seed of what the strategies draw.

    Raises:
        InvalidInputError: there is no such factor, or no image without a label, or the strategy lacks probabilities.
    """
    factors = dict.fromkeys((*known.factors, *features.classes))
    if factor is not None and factors and factor not in factors and (known.factors or features.trained):
        raise InvalidInputError(f"no factor is called {factor!r}{did_you_mean(factor, factors)}{_listed(factors)}")
    readable = features.readable
    listable = np.array([not ("\n" in name or "\r" in name) for name in names], dtype=np.bool_)
    testing = np.array([name in known.tests for name in names], dtype=np.bool_)
    pool = np.flatnonzero(readable & listable & ~testing).tolist()
    if not len(pool):
        raise InvalidInputError("no image is left to rank: all are for testing, or could not be read")
    labelled = np.flatnonzero([names[index] in known.labelled for index in pool])
    if len(labelled) == len(pool):
        raise InvalidInputError(f"all {len(pool):,} images have a label{f' of {factor}' if factor else ''} already")
    probs = _probs(features, factor) if features.trained else None
    if strategy == "margin" and probs is None:
        raise InvalidInputError(
            "--strategy margin needs the probabilities of a model that was trained with labels: pass its folder as "
            "--model, or features with --include class,probs,u,z,error; without one, use --strategy typical"
        )
    chosen = choose_strategy(strategy, len(labelled), probs)
    order = rank(features.latents[pool], labelled, count, chosen, None if probs is None else probs[pool], seed=seed)
    return Suggestion(
        names=tuple(names[pool[index]] for index in order),
        strategy=chosen,
        images=len(pool),
        labelled=len(labelled),
        tests=int((testing & readable).sum()),
        unreadable=int((~readable).sum()),
        unlistable=int((readable & ~listable).sum()),
    )


def _probs(features: ImageFeatures, factor: str | None) -> FloatArray | None:
    """Return the probabilities of a factor; of several, for each image those of which the model is least sure."""
    if factor is not None:
        return features.probs.get(factor)
    tables = list(features.probs.values())
    if len(tables) <= 1:
        return tables[0] if tables else None
    margins = []
    for table in tables:
        top = np.partition(table, -2, axis=1)
        margins.append(top[:, -1] - top[:, -2])
    widest = max(table.shape[1] for table in tables)
    probs = np.zeros((len(features), widest), dtype=np.float32)
    margin = np.min(margins, axis=0)
    probs[:, 0], probs[:, 1] = (1 + margin) / 2, (1 - margin) / 2
    return probs


def _listed(factors: Sequence[str] | dict[str, None]) -> str:
    return f" (there are: {', '.join(factors)})"
