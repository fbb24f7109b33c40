"""Fixed batch sizes for a GPU: each run is padded to the next size, in buffers that are allocated once.

A GPU provider plans and allocates anew for every shape that it has not seen, which takes longer than many runs. With a
few shapes, all of which are run at start-up, no request pays for that. The smallest sizes are far apart, because a
small batch costs a GPU as much as a single image; the larger ones double, so that less than half of the work is
padding.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partedvae.serving.onnx.devices import memory_of
from partedvae.serving.onnx_runtime import ort

BUCKETS = (1, 4, 16, 32, 64, 128, 256)
"""Batch sizes that are run; the last is the largest batch of one run."""

TensorSpec = tuple[str, Sequence[int]]
"""Element type as ONNX Runtime names it, for example "tensor(float)", and the dimensions after the batch."""

_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


def zeros(spec: TensorSpec, rows: int) -> NDArray[Any]:
    """Return a batch of zeros."""
    dtype, dims = spec
    return np.zeros((rows, *dims), _DTYPES[dtype])


def bucket_for(rows: int, buckets: Sequence[int] = BUCKETS) -> int:
    """Return the smallest batch size for a number of rows, which must not exceed the last bucket."""
    return next(bucket for bucket in buckets if bucket >= rows)


class _Bucket:
    """The buffers of one batch size: a staging array per input in main memory, and all tensors on the device."""

    def __init__(
        self, rows: int, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec], memory: str
    ) -> None:
        self.staging = {name: zeros(spec, rows) for name, spec in inputs.items()}
        self.tensors = {
            name: ort.OrtValue.ortvalue_from_shape_and_type((rows, *dims), _DTYPES[dtype], memory, 0)
            for name, (dtype, dims) in {**inputs, **outputs}.items()
        }


class BucketedSession:
    """A session that runs batches of a few fixed sizes.

    Can be used from several threads; their runs are sequential, as they are on a GPU anyway.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        buckets: Sequence[int] = BUCKETS,
    ) -> None:
        """Allocate the buffers of all buckets.

        Args:
            session: the session to run.
            inputs: type and dimensions by name; no input may have an output's name.
            outputs: the same.
            buckets: batch sizes, ascending.
        """
        self.provider = str(session.get_providers()[0])
        self._session = session
        self._inputs = inputs
        self._outputs = outputs
        memory = memory_of(self.provider)
        self._buckets = {rows: _Bucket(rows, inputs, outputs, memory) for rows in buckets}
        self._lock = threading.Lock()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch.

        Args:
            outputs: names of the outputs to compute.
            inputs: [rows, …] by name, with at most as many rows as the last bucket.

        Returns:
            [rows, …] per output.
        """
        rows = len(next(iter(inputs.values())))
        bucket = self._buckets[bucket_for(rows, tuple(self._buckets))]
        with self._lock:
            binding = self._session.io_binding()
            for name, values in inputs.items():
                # The remaining rows are from earlier runs: rows are computed independently, and theirs are cut off.
                bucket.staging[name][:rows] = values
                bucket.tensors[name].update_inplace(bucket.staging[name])
                binding.bind_ortvalue_input(name, bucket.tensors[name])
            for name in outputs:
                binding.bind_ortvalue_output(name, bucket.tensors[name])
            self._session.run_with_iobinding(binding)
            return [bucket.tensors[name].numpy()[:rows].copy() for name in outputs]

    def warm_up(self) -> None:
        """Run every bucket once, with all outputs."""
        for rows in self._buckets:
            self.run(list(self._outputs), {name: zeros(spec, rows) for name, spec in self._inputs.items()})
