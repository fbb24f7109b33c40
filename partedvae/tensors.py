"""Arrays of float32 to and from the messages that carry them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from partedvae.v1.tensors_pb2 import FloatTensor

LITTLE_ENDIAN = np.dtype("<f4")
"""The values of a message."""


def float_tensor(array: NDArray[np.float32]) -> FloatTensor:
    """Return the message of an array."""
    return FloatTensor(shape=array.shape, data=float_bytes(array))


def float_bytes(array: NDArray[np.float32]) -> bytes:
    """Return the values of an array as a message carries them."""
    return array.astype(LITTLE_ENDIAN, copy=False).tobytes()


def read_floats(tensor: FloatTensor) -> NDArray[np.float32]:
    """Return the array of a message, as a copy: an array over the bytes of a message is read-only."""
    return np.frombuffer(tensor.data, dtype=LITTLE_ENDIAN).reshape(tuple(tensor.shape)).astype(np.float32)
