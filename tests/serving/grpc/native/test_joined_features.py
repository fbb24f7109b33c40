"""Tests of `partedvae.serving.grpc.native.joined_features`: joined requests get what each gets by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partedvae.serving.batching.model import BatchedModels
from partedvae.serving.batching.scheduler import BatchPolicy
from partedvae.serving.decoding.pool import DecodePool
from partedvae.serving.errors import InvalidInputError, ModelNotFoundError
from partedvae.serving.grpc.native.joined_features import MAX_AROUND, JoinedFeatures
from partedvae.serving.grpc.service_context import ServiceContext
from partedvae.serving.grpc.servicer import PartedVAEServicer
from partedvae.serving.images import DEFAULT_LIMITS
from partedvae.serving.memory_budget import MIB, MemoryBudget
from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.request_memory import RequestMemory, request_memory
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.tensors_pb2 import EncodedImages, Images, PackedImages
from tests.bundles import COLOURED, GREY, TinyModel

COUNT = 5
EVERYTHING = [1, 2, 3, 4, 5, 6, 7]
"""All outputs but `unfamiliar`."""


def requests_of(
    model: TinyModel, name: str, version: int = 0, include: Sequence[int] = (), shape: Sequence[int] | None = None
) -> list[pb.ExtractFeaturesRequest]:
    """Return requests for one image each, which differ."""
    shape = (1, model.height, model.width, model.channels) if shape is None else shape
    images = np.random.default_rng(1).integers(0, 256, (COUNT, *shape), np.uint8)
    return [
        pb.ExtractFeaturesRequest(
            model=pb.ModelSelector(name=name, version=version),
            images=Images(packed=PackedImages(data=image.tobytes(), shape=shape)),
            include=include,  # type: ignore[arg-type]
        )
        for image in images
    ]


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[ServiceContext]:
    """Serve three models, one with two versions of different weights, and one without z."""
    for model in (GREY, replace(GREY, seed=7)):
        model.write(tmp_path / "tiny")
    COLOURED.write(tmp_path / "shapes")
    models = BatchedModels(BatchPolicy())
    with ThreadPoolExecutor(2) as executor:
        pool = DecodePool(executor, DEFAULT_LIMITS, processes=1)
        yield ServiceContext(ModelRepository(tmp_path, "cpu"), models, executor, pool, DEFAULT_LIMITS, 16 * MIB)
        await pool.close()
    models.close()


async def replies_of(joined: JoinedFeatures, requests: Sequence[pb.ExtractFeaturesRequest]) -> list[bytes]:
    """Return the replies to requests, which must be of one kind."""
    found = [joined.split(request.SerializeToString()) for request in requests]
    kinds = {each[0] for each in found if each is not None}
    assert len(kinds) == 1
    return await joined.replies(kinds.pop(), [each[1] for each in found if each is not None])


def assert_equal(found: Any, expected: Any) -> None:
    """Compare messages: numbers within 1e-6, everything else exactly."""
    for tensor, other in zip(_tensors(found), _tensors(expected), strict=True):
        np.testing.assert_allclose(
            np.frombuffer(tensor.data, "<f4"), np.frombuffer(other.data, "<f4"), atol=1e-6, rtol=1e-6
        )
        assert np.frombuffer(tensor.data, "<f4").any() or not other.data
        tensor.data = other.data
    assert found == expected


def _tensors(message: Any) -> list[Any]:
    found = []
    for field, value in message.ListFields():
        for each in value if field.is_repeated else [value]:
            if field.message_type is not None and field.message_type.name == "FloatTensor":
                found.append(each)
            elif field.message_type is not None:
                found += _tensors(each)
    return found


@pytest.mark.parametrize(
    ("requests", "tensors"),
    [
        (requests_of(GREY, "tiny"), 2),
        (requests_of(GREY, "tiny", version=1), 2),
        (requests_of(COLOURED, "shapes"), 4),
        (requests_of(COLOURED, "shapes", include=EVERYTHING), 10),
        (requests_of(COLOURED, "shapes", include=[4]), 1),
        (requests_of(GREY, "tiny", include=[7, 1, 7]), 2),
        (requests_of(GREY, "tiny", shape=(1, 8, 6)), 2),
        (requests_of(GREY, "tiny", shape=(1, 16, 20, 3)), 2),
    ],
    ids=["default", "version 1", "two factors", "everything", "z alone", "twice", "without channels", "resized"],
)
async def test_each_gets_its_own(
    context: ServiceContext, requests: list[pb.ExtractFeaturesRequest], tensors: int
) -> None:
    """The reply has the numbers, and nothing else, that the reply to the same request by itself has."""
    joined = JoinedFeatures(context)
    memory = RequestMemory(MemoryBudget(1024 * MIB))
    request_memory.set(memory)
    servicer: Any = PartedVAEServicer(context)
    for _ in range(2):  # With a new layout and template, and with those that there are.
        replies = await replies_of(joined, requests)
        assert len(replies) == COUNT
        assert len(set(replies)) == COUNT
        for request, reply in zip(requests, replies, strict=True):
            parsed = pb.ExtractFeaturesResponse.FromString(reply)
            assert len(_tensors(parsed)) == tensors
            assert_equal(parsed, await servicer.ExtractFeatures(request, None))
    memory.release()


async def test_a_model_is_replaced(context: ServiceContext, tmp_path: Path) -> None:
    """Replies name the version that has computed them."""
    request_memory.set(RequestMemory(MemoryBudget(1024 * MIB)))
    joined, requests = JoinedFeatures(context), requests_of(GREY, "tiny")
    for version in (2, 3):
        for request, reply in zip(requests, await replies_of(joined, requests), strict=True):
            parsed = pb.ExtractFeaturesResponse.FromString(reply)
            assert parsed.model.version == version
            images = np.frombuffer(request.images.packed.data, np.uint8).reshape(1, 8, 6, 1)
            found = np.frombuffer(parsed.factors[0].u_mean.data or parsed.factors[0].probs.data, "<f4")
            name = "digit.u_mean" if parsed.factors[0].u_mean.data else "digit.probs"
            expected = replace(GREY, seed=7 if version == 2 else 9).encode(images)[name][0]
            np.testing.assert_allclose(found, expected, atol=1e-5)
        replace(GREY, seed=9).write(tmp_path / "tiny")
        context.repository.refresh()


def test_what_is_not_joined(context: ServiceContext) -> None:
    """Files, several images, none, texts, and what is wrong by itself; and requests that differ are of other kinds."""
    joined = JoinedFeatures(context)
    (request, *_) = requests_of(GREY, "tiny")
    two = pb.ExtractFeaturesRequest(images=Images(packed=PackedImages(data=bytes(96), shape=[2, 8, 6])))
    files = pb.ExtractFeaturesRequest(images=Images(encoded=EncodedImages(items=[b"x"])))
    short = pb.ExtractFeaturesRequest(images=Images(packed=PackedImages(data=b"short", shape=[1, 8, 6, 1])))
    texts, unknown = (requests_of(GREY, "tiny", include=include)[0] for include in ([1, 8], [0]))
    for other in (two, files, short, texts, unknown, pb.ExtractFeaturesRequest()):
        assert joined.split(other.SerializeToString()) is None
    assert joined.split(b"\xff" * 20) is None
    others = [
        requests_of(GREY, "tiny", version=1)[0],
        requests_of(GREY, "tine")[0],
        requests_of(GREY, "tiny", include=[1])[0],
        requests_of(GREY, "tiny", include=[2])[0],
        requests_of(GREY, "tiny", shape=(1, 8, 6))[0],
        requests_of(GREY, "tiny", shape=(1, 6, 8, 1))[0],
    ]
    found = [joined.split(other.SerializeToString()) for other in [request, *others] * 2]
    assert len({each[0] for each in found if each is not None}) == 7
    assert [each and each[1] for each in found] == [other.images.packed.data for other in [request, *others] * 2]


def unknown_field(size: int) -> bytes:
    """Return a field that requests do not have, of so many bytes of zeros."""
    length, varint = size, b""
    while length > 0x7F:
        length, varint = length >> 7, varint + bytes([length & 0x7F | 0x80])
    return b"\xfa\x7f" + varint + bytes([length]) + bytes(size)


def test_layouts_that_are_kept_are_small(context: ServiceContext) -> None:
    """Requests with much beside their pixels are joined, but what is much is not kept in memory."""
    joined = JoinedFeatures(context)
    request = pb.ExtractFeaturesRequest(images=Images(packed=PackedImages(data=b"\xfe", shape=[1, 1, 1])))
    for size in (100, MAX_AROUND, 900_000):
        found = joined.split(unknown_field(size) + request.SerializeToString())
        assert found is not None
        assert found[1] == b"\xfe"
    kept = [layout for layouts in joined._layouts.values() for layout in layouts]
    assert [len(layout.before) // 100 for layout in kept] == [1]


@pytest.mark.parametrize(
    "beside",
    [unknown_field(0) * 6000, pb.ExtractFeaturesRequest(model=pb.ModelSelector(name="a" * 5000)).SerializeToString()],
    ids=["fields", "name"],
)
def test_what_is_refused_is_not_parsed(context: ServiceContext, beside: bytes) -> None:
    """Requests that the limits of fields and names refuse are left to the code that says so."""
    joined = JoinedFeatures(context)
    request = pb.ExtractFeaturesRequest(images=Images(packed=PackedImages(data=b"\xfe", shape=[1, 1, 1])))
    assert joined.split(request.SerializeToString()) is not None
    assert joined.split(beside + request.SerializeToString()) is None


@pytest.mark.parametrize("place", ["before", "after"])
def test_bytes_that_occur_twice(context: ServiceContext, place: str) -> None:
    """Pixels are those of the request, also where the same bytes are elsewhere in it."""
    joined = JoinedFeatures(context)
    pixels = [bytes([value]) * 2 for value in (1, 2, 97)]
    for each in [*pixels, *reversed(pixels)]:
        request = pb.ExtractFeaturesRequest(
            model=pb.ModelSelector(name="aa" if place == "before" else ""),
            images=Images(packed=PackedImages(data=each, shape=[1, 1, 2])),
            include=[1, 1] if place == "after" else [],  # type: ignore[list-item]
        )
        found = joined.split(request.SerializeToString())
        assert found is not None
        assert found[1] == each


@pytest.mark.parametrize(
    ("requests", "kind", "message"),
    [
        (requests_of(GREY, "tinny"), ModelNotFoundError, "no model is named 'tinny'"),
        (requests_of(GREY, "tiny", version=9), ModelNotFoundError, "has no version 9"),
        (requests_of(GREY, "tiny", shape=(1, 8, 6, 2)), InvalidInputError, "with 1 or 3 channels"),
    ],
    ids=["name", "version", "channels"],
)
async def test_errors(
    context: ServiceContext, requests: list[pb.ExtractFeaturesRequest], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        await replies_of(JoinedFeatures(context), requests)
