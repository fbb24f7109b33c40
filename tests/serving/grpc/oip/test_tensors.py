"""Tests of reading tensors of the Open Inference Protocol: all valid encodings, and invalid ones."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
import pytest

from partedvae.oip import inference_pb2 as oip
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.grpc.oip.models import Graph, signature
from partedvae.serving.grpc.oip.tensors import Values, output_tensors, read_inputs
from partedvae.serving.images import ImageLimits
from tests.bundles import COLOURED, GREY

LIMITS = ImageLimits(max_images=100)
IMAGES = GREY.random_images(2)
FILES = (b"first", b"", b"third!")
InputTensor = oip.ModelInferRequest.InferInputTensor
Contents = oip.InferTensorContents


def tensor(name: str, datatype: str, *shape: int, contents: Contents | None = None, **more: Any) -> InputTensor:
    return InputTensor(name=name, datatype=datatype, shape=shape, contents=contents, **more)


def request(*inputs: InputTensor, raw: tuple[bytes, ...] = (), **more: Any) -> oip.ModelInferRequest:
    return oip.ModelInferRequest(inputs=inputs, raw_input_contents=raw, **more)


def read(message: oip.ModelInferRequest, graph: Graph = "encoder") -> dict[str, Values]:
    return read_inputs(message, signature(GREY.manifest(), graph), LIMITS)


def elements(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


U = tensor("u", "FP32", 2, 3)
Z = tensor("z", "FP32", 2, 4)
PIXELS = tensor("images", "UINT8", 2, 8, 6, 1)
LATENTS = {name: np.arange(2 * dim, dtype="<f4").reshape(2, dim) / 7 for name, dim in (("u", 3), ("z", 4))}


def test_signatures() -> None:
    """The tensors of a model's graphs are those of its bundle: outputs per factor, then z; u and z in, images out."""
    encoder, decoder = (signature(COLOURED.manifest(), graph) for graph in ("encoder", "decoder"))
    assert [(t.name, t.datatype, t.dims) for t in encoder.inputs] == [("images", "UINT8", (10, 12, 3))]
    assert [(t.name, t.datatype, t.dims) for t in encoder.outputs] == [
        ("shape.probs", "FP32", (3,)),
        ("shape.u_mean", "FP32", (2,)),
        ("shape.u_logvar", "FP32", (2,)),
        ("colour.probs", "FP32", (2,)),
        ("colour.u_mean", "FP32", (1,)),
        ("colour.u_logvar", "FP32", (1,)),
        ("z_mean", "FP32", (5,)),
        ("z_logvar", "FP32", (5,)),
    ]
    assert [(t.name, t.datatype, t.dims) for t in decoder.inputs] == [("u", "FP32", (3,)), ("z", "FP32", (5,))]
    assert [(t.name, t.datatype, t.dims) for t in decoder.outputs] == [("images", "UINT8", (10, 12, 3))]


def test_pixels() -> None:
    """Pixels are raw or integers."""
    raw = read(request(PIXELS, raw=(IMAGES.tobytes(),)))
    typed = Contents(uint_contents=IMAGES.ravel().tolist())
    listed = read(request(tensor("images", "UINT8", 2, 8, 6, 1, contents=typed)))
    for values in (raw["images"], listed["images"]):
        assert isinstance(values, np.ndarray)
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values, IMAGES)


def test_latents_in_any_order() -> None:
    """Raw contents are in the order of the inputs of the request."""
    raw = read(request(Z, U, raw=(LATENTS["z"].tobytes(), LATENTS["u"].tobytes())), "decoder")
    typed = [
        tensor(name, "FP32", *array.shape, contents=Contents(fp32_contents=array.ravel().tolist()))
        for name, array in LATENTS.items()
    ]
    listed = read(request(*typed), "decoder")
    for values in (raw, listed):
        for name, expected in LATENTS.items():
            np.testing.assert_array_equal(np.asarray(values[name]), expected)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_files(shape: tuple[int, ...]) -> None:
    """Image files are raw, each preceded by its length, or in contents."""
    raw = read(request(tensor("images", "BYTES", *shape), raw=(elements(*FILES),)))
    listed = read(request(tensor("images", "BYTES", *shape, contents=Contents(bytes_contents=FILES))))
    assert raw == listed == {"images": list(FILES)}


def test_outputs_are_raw_in_the_requested_order() -> None:
    """Outputs have a description and little-endian contents."""
    tensors = signature(GREY.manifest(), "encoder").requested(["z_mean", "digit.probs"])
    arrays = {"digit.probs": np.ones((2, 10), np.float32), "z_mean": np.zeros((2, 4), np.float32)}
    described, contents = output_tensors(tensors, arrays)
    assert [(t.name, t.datatype, list(t.shape)) for t in described] == [
        ("z_mean", "FP32", [2, 4]),
        ("digit.probs", "FP32", [2, 10]),
    ]
    assert contents == [bytes(32), struct.pack("<f", 1) * 20]


BAD_PIXELS: dict[str, tuple[oip.ModelInferRequest, str]] = {
    "no inputs": (request(), "the inputs are []; send each of ['images'] once"),
    "twice": (request(PIXELS, PIXELS), "the inputs are ['images', 'images']; send each of ['images'] once"),
    "unknown name": (
        request(tensor("image", "UINT8", 2, 8, 6, 1)),
        "no input is named 'image'; choose from ['images']; did you mean 'images'?",
    ),
    "both ways": (
        request(tensor("images", "UINT8", 2, 8, 6, 1, contents=Contents()), raw=(b"x",)),
        "raw_input_contents and contents are both set; use only one of them",
    ),
    "too much raw": (request(PIXELS, raw=(b"", b"")), "1 inputs have 2 raw_input_contents; send one per input"),
    "no values": (
        request(PIXELS),
        "input 'images' has 0 values in contents.uint_contents; UINT8 of shape [2, 8, 6, 1]",
    ),
    "wrong field": (
        request(tensor("images", "UINT8", 1, 8, 6, 1, contents=Contents(int_contents=[0] * 48))),
        "has 0 values in contents.uint_contents; UINT8 of shape [1, 8, 6, 1] needs 48 there",
    ),
    "above 255": (
        request(tensor("images", "UINT8", 1, 8, 6, 1, contents=Contents(uint_contents=[256] * 48))),
        "input 'images' has the value 256; the maximum of UINT8 is 255",
    ),
    "datatype": (
        request(tensor("images", "FP32", 2, 8, 6, 1)),
        "input 'images' has the datatype 'FP32'; send UINT8 or BYTES",
    ),
    "other size": (
        request(tensor("images", "UINT8", 2, 6, 8, 1)),
        "input 'images' has the shape [2, 6, 8, 1]; send UINT8 of shape [rows, 8, 6, 1] with at least one row",
    ),
    "no shape": (request(tensor("images", "UINT8")), "has the shape []; send UINT8 of shape [rows, 8, 6, 1]"),
    "no rows": (request(tensor("images", "UINT8", 0, 8, 6, 1)), "with at least one row"),
    "negative": (request(tensor("images", "UINT8", -1, 8, 6, 1)), "has the shape [-1, 8, 6, 1]"),
    "huge": (
        request(tensor("images", "UINT8", 2**62, 8, 6, 1)),
        "4611686018427387904 rows of input 'images' are above the limit of 100 per request",
    ),
    "too few bytes": (
        request(PIXELS, raw=(bytes(95),)),
        "input 'images' has 95 raw bytes; UINT8 of shape [2, 8, 6, 1] needs 96",
    ),
    "shape of files": (
        request(tensor("images", "BYTES", 2, 2)),
        "has the shape [2, 2]; send BYTES of shape [rows] with at least one row",
    ),
    "too few files": (
        request(tensor("images", "BYTES", 4), raw=(elements(*FILES),)),
        "its 23 raw bytes are not 4 elements, each after its length in 4 bytes, little-endian",
    ),
    "too many files": (request(tensor("images", "BYTES", 2), raw=(elements(*FILES),)), "are not 2 elements"),
    "cut file": (request(tensor("images", "BYTES", 3), raw=(elements(*FILES)[:-1],)), "are not 3 elements"),
    "cut length": (request(tensor("images", "BYTES", 1), raw=(b"\x01\x00",)), "its 2 raw bytes are not 1 elements"),
    "shared memory": (
        request(
            tensor(
                "images",
                "UINT8",
                2,
                8,
                6,
                1,
                parameters={"shared_memory_region": oip.InferParameter(string_param="x")},
            )
        ),
        "the parameter 'shared_memory_region' of 'images' is not supported; omit it",
    ),
}


@pytest.mark.parametrize(("message", "text"), BAD_PIXELS.values(), ids=BAD_PIXELS.keys())
def test_bad_images(message: oip.ModelInferRequest, text: str) -> None:
    """The message names the input, its value and the remedy."""
    with pytest.raises(InvalidInputError, match=re.escape(text)):
        read(message)


BAD_LATENTS: dict[str, tuple[oip.ModelInferRequest, str]] = {
    "one missing": (request(U), "the inputs are ['u']; send each of ['u', 'z'] once"),
    "rows differ": (
        request(tensor("u", "FP32", 1, 3), Z, raw=(bytes(12), bytes(32))),
        "the inputs differ in their number of rows: {'u': [1, 3], 'z': [2, 4]}",
    ),
    "half precision": (
        request(tensor("u", "FP16", 2, 3), Z),
        "input 'u' has the datatype 'FP16'; send FP32",
    ),
    "files": (request(tensor("u", "BYTES", 2), Z), "input 'u' has the datatype 'BYTES'; send FP32"),
    "not finite": (
        request(U, Z, raw=(struct.pack("<6f", *[float("nan")] * 6), bytes(32))),
        "input 'u' has values that are not finite",
    ),
}


@pytest.mark.parametrize(("message", "text"), BAD_LATENTS.values(), ids=BAD_LATENTS.keys())
def test_bad_latents(message: oip.ModelInferRequest, text: str) -> None:
    """Inputs of the decoder are checked in the same way."""
    with pytest.raises(InvalidInputError, match=re.escape(text)):
        read(message, "decoder")
