"""Fixed batch sizes for a GPU: each run is padded to the next one, on buffers that stay where they are.

A GPU provider plans and allocates anew for each shape that it has not seen, which takes longer than many runs do. With
a few shapes, all of them seen at the start, no request pays for that. Small steps are wide because a small batch costs
a GPU the same as a single image; large ones double, so that less than half of the work is padding.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from partedvae.serving.onnx.devices import memory_of

BUCKETS = (1, 4, 16, 32, 64, 128, 256)
"""Batch sizes that are run; the last is the largest batch that one run takes."""

TensorSpec = tuple[str, Sequence[int]]
"""Element type as ONNX Runtime names it ("tensor(float)"), and the dimensions after the batch."""

_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


def zeros(spec: TensorSpec, rows: int) -> NDArray[Any]:
    """Return a batch of zeros."""
    dtype, dims = spec
    return np.zeros((rows, *dims), _DTYPES[dtype])


def bucket_for(rows: int, buckets: Sequence[int] = BUCKETS) -> int:
    """Return the smallest batch size that holds so many rows, which are at most the last bucket's."""
    return next(bucket for bucket in buckets if bucket >= rows)


class _Slot:
    """The buffers of one batch size: a staging array of each input in main memory, and all tensors on the device."""

    def __init__(
        self, rows: int, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec], memory: str
    ) -> None:
        self.staging = {name: zeros(spec, rows) for name, spec in inputs.items()}
        self.tensors = {
            name: ort.OrtValue.ortvalue_from_shape_and_type((rows, *dims), _DTYPES[dtype], memory, 0)
            for name, (dtype, dims) in {**inputs, **outputs}.items()
        }


class BucketedGraph:
    """A graph that is run in buckets. Safe to use from many threads: runs follow one another, as they do on a GPU."""

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        buckets: Sequence[int] = BUCKETS,
    ) -> None:
        """Take a session and what goes in and out, by name; no input has an output's name."""
        self.provider = str(session.get_providers()[0])
        self._session = session
        self._inputs = inputs
        self._outputs = outputs
        memory = memory_of(self.provider)
        self._slots = {rows: _Slot(rows, inputs, outputs, memory) for rows in buckets}
        self._lock = threading.Lock()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch.

        Args:
            outputs: names of what to compute.
            inputs: [rows, …] by name, at most as many rows as the last bucket has.

        Returns:
            [rows, …] for each of `outputs`.
        """
        rows = len(next(iter(inputs.values())))
        slot = self._slots[bucket_for(rows, tuple(self._slots))]
        with self._lock:
            binding = self._session.io_binding()
            for name, values in inputs.items():
                # The rows behind are those of earlier runs; rows do not see each other, and theirs are cut off.
                slot.staging[name][:rows] = values
                slot.tensors[name].update_inplace(slot.staging[name])
                binding.bind_ortvalue_input(name, slot.tensors[name])
            for name in outputs:
                binding.bind_ortvalue_output(name, slot.tensors[name])
            self._session.run_with_iobinding(binding)
            return [slot.tensors[name].numpy()[:rows].copy() for name in outputs]

    def warm_up(self) -> None:
        """Run every bucket once, with all outputs."""
        for rows in self._slots:
            self.run(list(self._outputs), {name: zeros(spec, rows) for name, spec in self._inputs.items()})
