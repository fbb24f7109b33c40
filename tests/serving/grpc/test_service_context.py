"""Tests of `partedvae.serving.grpc.service_context.ImageReader` with a thread that can be blocked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import pytest

from partedvae.serving.decoding.pool import DecodePool
from partedvae.serving.errors import InvalidInputError, OverloadedError
from partedvae.serving.grpc.service_context import RETRY_AFTER, ImageReader
from partedvae.serving.images import DEFAULT_LIMITS, decode
from partedvae.serving.memory_budget import MemoryBudget
from partedvae.serving.request_memory import RequestMemory, request_memory
from partedvae.v1.manifest_pb2 import Manifest
from partedvae.v1.tensors_pb2 import EncodedImages, Images, PackedImages
from tests.bundles import GREY
from tests.processes import PATIENCE
from tests.serving.pictures import file_of, noise

T = TypeVar("T")


class Model(NamedTuple):
    """What the reader needs of a model."""

    manifest: Manifest
    feature_bytes: int


MODEL = Model(GREY.manifest(), 100)
SPEC = MODEL.manifest.image
FILES = [file_of(noise(200, 150)), file_of(noise(200, 150), "JPEG")]


def reader_of(executor: Executor) -> ImageReader:
    return ImageReader(executor, DecodePool(executor, DEFAULT_LIMITS, processes=1), DEFAULT_LIMITS, max_queue_rows=2)


BUDGET = MemoryBudget(1 << 30)


async def in_request(work: Awaitable[T]) -> T:
    """Await work with the memory that a request has."""
    memory = RequestMemory(BUDGET)
    request_memory.set(memory)
    try:
        return await work
    finally:
        memory.release()


def packed(count: int) -> Images:
    images = GREY.random_images(count)
    return Images(packed=PackedImages(data=images.tobytes(), shape=images.shape))


def encoded(*files: bytes) -> Images:
    return Images(encoded=EncodedImages(items=files))


async def test_files_are_limited_and_pixels_are_not() -> None:
    """Files that wait for a thread are limited: above the limit calls are rejected, and streams wait.

    Pixels at the model's own size need no thread, and are not limited.
    """
    gate = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(gate.wait, PATIENCE)
        reader = reader_of(executor)
        waiting = asyncio.create_task(in_request(reader.read(encoded(*FILES), MODEL)))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 images are already waiting, the limit is 2") as caught:
            await in_request(reader.read(encoded(FILES[0]), MODEL))
        with pytest.raises(OverloadedError, match="2 images are already waiting"):
            await in_request(reader.read_files(FILES[:1], MODEL, 0))
        assert caught.value.retry_after == RETRY_AFTER
        patient = [asyncio.create_task(in_request(reader.read_each(encoded(b"x", FILES[1]), MODEL))) for _ in range(3)]
        np.testing.assert_array_equal(await in_request(reader.read(packed(5), MODEL)), GREY.random_images(5))
        images, errors = await in_request(reader.read_each(packed(5), MODEL))
        assert (len(images), errors) == (5, [])
        assert not any(task.done() for task in (waiting, *patient))
        gate.set()
        np.testing.assert_array_equal(await waiting, decode(FILES, SPEC))
        for task in patient:
            images, errors = await task
            np.testing.assert_array_equal(images, decode(FILES[1:], SPEC))
            assert [error.index for error in errors] == [0]
        assert len(await in_request(reader.read(encoded(FILES[0]), MODEL))) == 1
        np.testing.assert_array_equal(await in_request(reader.read_files(FILES, MODEL, 0)), decode(FILES, SPEC))


async def test_pixels_of_another_size() -> None:
    """Pixels of another size are resized in a thread."""
    pixels = noise(20, 30)
    message = Images(packed=PackedImages(data=pixels.tobytes(), shape=(1, *pixels.size[::-1])))
    with ThreadPoolExecutor(1) as executor:
        reader = reader_of(executor)
        image = await in_request(reader.read(message, MODEL))
        np.testing.assert_array_equal(image, (await in_request(reader.read_each(message, MODEL)))[0])
        assert image.shape == (1, 8, 6, 1)
        with pytest.raises(InvalidInputError, match=r"no images: set images\.packed or images\.encoded"):
            await in_request(reader.read(Images(), MODEL))
