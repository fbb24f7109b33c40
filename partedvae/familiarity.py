"""Images unlike those that the model was trained on: what results say of them, and the warning of both clients."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from partedvae.v1 import service_pb2 as pb

FAMILIAR = ""
UNFAMILIAR = "unlike the training images"
INVERTED = "unlike the training images, but like them when inverted (255 - x)"

_TEXTS = {
    pb.FAMILIARITY_FAMILIAR: FAMILIAR,
    pb.FAMILIARITY_UNFAMILIAR: UNFAMILIAR,
    pb.FAMILIARITY_INVERTED: INVERTED,
}


class UnfamiliarImageWarning(UserWarning):
    """Images of a call are unlike the training images: their classes and features may be wrong."""


def from_messages(values: Iterable[pb.Familiarity.ValueType]) -> NDArray[np.str_] | None:
    """Return the texts of a response, [images]; None where it has none."""
    texts = [_TEXTS.get(value, UNFAMILIAR) for value in values]
    return np.array(texts) if texts else None


def to_messages(texts: NDArray[np.str_] | None) -> list[pb.Familiarity.ValueType]:
    """Return the values of a response; none for None."""
    values = {text: value for value, text in _TEXTS.items()}
    return [] if texts is None else [values[text] for text in texts.tolist()]


def warn_if_unfamiliar(texts: NDArray[np.str_] | None) -> None:
    """Give an `UnfamiliarImageWarning` if any image of a call is unfamiliar. To be called by the client's methods."""
    if texts is not None and (message := describe(texts)):
        warnings.warn(message, UnfamiliarImageWarning, stacklevel=3)


def describe(texts: NDArray[np.str_]) -> str:
    """Return a warning for the texts of a call; empty where all images are familiar."""
    positions = np.flatnonzero(texts != FAMILIAR)
    if not len(positions):
        return ""
    shown = ", ".join(map(str, positions[:5])) + (", …" if len(positions) > 5 else "")
    message = (
        f"{len(positions):,} of {len(texts):,} images are unlike the training images, so that their classes and "
        f"features may be wrong: {shown}"
    )
    inverted = int(np.count_nonzero(texts == INVERTED))
    if inverted:
        message += (
            f"; {inverted:,} of them would be like the training images when inverted: pass 255 - x for each pixel x, "
            "PIL.ImageOps.invert(image) for example"
        )
    return message
