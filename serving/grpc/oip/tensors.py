"""Converts tensors of the Open Inference Protocol to checked NumPy arrays, and arrays to tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from partedvae.common.suggest import did_you_mean
from partedvae.oip import inference_pb2 as oip
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.grpc.oip.models import Signature, Tensor
from partedvae.serving.images import ImageLimits

BYTES = "BYTES"
"""Datatype of image files."""
NUMPY: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
LENGTH_BYTES = 4
"""Size of the length before each element of a raw BYTES tensor, little-endian."""
VALUES_AT_ONCE = 1 << 14
"""Numbers of `contents` that are converted in one step, some of a millisecond, in which no other thread runs."""
UNSUPPORTED = ("shared_memory_region", "classification")
"""Parameters of tensors that this server does not support, and that would change the result."""

InputTensor: TypeAlias = oip.ModelInferRequest.InferInputTensor
RequestedOutput: TypeAlias = oip.ModelInferRequest.InferRequestedOutputTensor
Values = NDArray[Any] | list[bytes]
"""An array [rows, …], or the bytes of image files."""


def read_inputs(request: oip.ModelInferRequest, signature: Signature, limits: ImageLimits) -> dict[str, Values]:
    """Return the value of each input of a graph by name.

    Pixels and latents are arrays of the declared datatype and shape, image files (BYTES) are lists.

    Raises:
        InvalidInputError: an input is missing, unknown or duplicate; its shape, datatype or length does not match the
            declaration; inputs differ in their number of rows; or there are more rows than allowed.
    """
    declared = {tensor.name: tensor for tensor in signature.inputs}
    _check_names([tensor.name for tensor in request.inputs], declared)
    parts: list[InputTensor | RequestedOutput] = [*request.inputs, *request.outputs]
    for part in parts:
        for name in UNSUPPORTED:
            if name in part.parameters:
                raise InvalidInputError(f"the parameter {name!r} of {part.name!r} is not supported; omit it")
    raw = list(request.raw_input_contents)
    if raw and any(tensor.HasField("contents") for tensor in request.inputs):
        raise InvalidInputError("raw_input_contents and contents are both set; use only one of them")
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(f"{len(request.inputs)} inputs have {len(raw)} raw_input_contents; send one per input")
    values: dict[str, Values] = {}
    for index, tensor in enumerate(request.inputs):
        rows = _checked_rows(tensor, declared[tensor.name], limits)
        read = _from_raw(tensor, raw[index], rows) if raw else _from_contents(tensor, rows)
        values[tensor.name] = read
    if len({len(value) for value in values.values()}) > 1:
        shapes = {tensor.name: list(tensor.shape) for tensor in request.inputs}
        raise InvalidInputError(f"the inputs differ in their number of rows: {shapes}")
    return values


def has_many_values(request: oip.ModelInferRequest) -> bool:
    """Report whether reading the inputs takes so long that a thread should do it: numbers in `contents`, one by one."""
    return any(
        len(tensor.contents.uint_contents) + len(tensor.contents.fp32_contents) > VALUES_AT_ONCE
        for tensor in request.inputs
    )


def output_tensors(
    tensors: Sequence[Tensor], arrays: Mapping[str, NDArray[Any]]
) -> tuple[list[oip.ModelInferResponse.InferOutputTensor], list[bytes]]:
    """Return the description and the raw contents of each output."""
    described = [
        oip.ModelInferResponse.InferOutputTensor(name=t.name, datatype=t.datatype, shape=arrays[t.name].shape)
        for t in tensors
    ]
    return described, [arrays[t.name].astype(NUMPY[t.datatype], copy=False).tobytes() for t in tensors]


def _check_names(names: Sequence[str], declared: Mapping[str, Tensor]) -> None:
    for name in names:
        if name not in declared:
            raise InvalidInputError(
                f"no input is named {name!r}; choose from {list(declared)}{did_you_mean(name, declared)}"
            )
    if sorted(names) != sorted(declared):
        raise InvalidInputError(f"the inputs are {list(names)}; send each of {list(declared)} once")


def _checked_rows(tensor: InputTensor, declared: Tensor, limits: ImageLimits) -> int:
    """Check datatype and shape, and return the number of rows."""
    shape = tuple(tensor.shape)
    datatypes = ["UINT8", BYTES] if declared.datatype == "UINT8" else [declared.datatype]
    if tensor.datatype not in datatypes:
        raise InvalidInputError(
            f"input {tensor.name!r} has the datatype {tensor.datatype!r}; send {' or '.join(datatypes)}"
        )
    fits = shape[1:] in ((), (1,)) if tensor.datatype == BYTES else shape[1:] == declared.dims
    if not shape or not fits or shape[0] < 1:
        dims = () if tensor.datatype == BYTES else declared.dims
        raise InvalidInputError(
            f"input {tensor.name!r} has the shape {list(shape)}; send {tensor.datatype} of shape "
            f"[{', '.join(['rows', *map(str, dims)])}] with at least one row"
        )
    if shape[0] > limits.max_images:
        raise InvalidInputError(
            f"{shape[0]} rows of input {tensor.name!r} are above the limit of {limits.max_images} per request; "
            "send them in several requests"
        )
    return shape[0]


def _from_raw(tensor: InputTensor, data: bytes, rows: int) -> Values:
    if tensor.datatype == BYTES:
        return _elements(tensor, data, rows)
    dtype = NUMPY[tensor.datatype]
    expected = math.prod(tensor.shape) * dtype.itemsize
    if len(data) != expected:
        raise InvalidInputError(
            f"input {tensor.name!r} has {len(data)} raw bytes; {tensor.datatype} of shape {list(tensor.shape)} "
            f"needs {expected}"
        )
    return _finite(tensor, np.frombuffer(data, dtype).reshape(tensor.shape))


def _elements(tensor: InputTensor, data: bytes, rows: int) -> list[bytes]:
    """Split raw BYTES into its elements."""
    elements: list[bytes] = []
    start = 0
    while start < len(data) and len(elements) < rows:
        stop = start + LENGTH_BYTES
        length = int.from_bytes(data[start:stop], "little")
        start = stop + length
        elements.append(data[stop:start])
    if start != len(data) or len(elements) != rows:
        raise InvalidInputError(
            f"input {tensor.name!r}: its {len(data)} raw bytes are not {rows} elements, each after its length in "
            f"{LENGTH_BYTES} bytes, little-endian"
        )
    return elements


def _from_contents(tensor: InputTensor, rows: int) -> Values:
    field = {BYTES: "bytes_contents", "UINT8": "uint_contents", "FP32": "fp32_contents"}[tensor.datatype]
    values: Sequence[Any] = getattr(tensor.contents, field)
    expected = rows if tensor.datatype == BYTES else math.prod(tensor.shape)
    if len(values) != expected:
        raise InvalidInputError(
            f"input {tensor.name!r} has {len(values)} values in contents.{field}; {tensor.datatype} of shape "
            f"{list(tensor.shape)} needs {expected} there, or its bytes in raw_input_contents"
        )
    if tensor.datatype == BYTES:
        return list(values)
    array = np.empty(expected, NUMPY[tensor.datatype])
    for start in range(0, expected, VALUES_AT_ONCE):
        part = np.array(values[start : start + VALUES_AT_ONCE])
        if tensor.datatype == "UINT8" and part.max() > np.iinfo(np.uint8).max:
            raise InvalidInputError(f"input {tensor.name!r} has the value {part.max()}; the maximum of UINT8 is 255")
        array[start : start + VALUES_AT_ONCE] = part
    return _finite(tensor, array.reshape(tensor.shape))


def _finite(tensor: InputTensor, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInputError(f"input {tensor.name!r} has values that are not finite")
    return array
