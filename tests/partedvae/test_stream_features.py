"""Streams of features through both clients and a real server."""

import asyncio
import itertools
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partedvae import (
    AsyncClient,
    Client,
    DeadlineError,
    FeatureChunk,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from partedvae.results import ImageArray, concatenate
from tests.bundles import GREY
from tests.processes import PATIENCE, ServerProcess, running_server

Stream = Callable[..., list[FeatureChunk]]


def synchronous(address: str, *args: Any, settings: dict[str, Any] | None = None, **kwargs: Any) -> list[FeatureChunk]:
    with Client(address, **(settings or {})) as client:
        return list(client.stream_features(*args, **kwargs))


def asynchronous(address: str, *args: Any, **kwargs: Any) -> list[FeatureChunk]:
    return asyncio.run(collected(address, *args, **kwargs))


async def collected(
    address: str, *args: Any, settings: dict[str, Any] | None = None, **kwargs: Any
) -> list[FeatureChunk]:
    async with AsyncClient(address, **(settings or {})) as client:
        return [chunk async for chunk in client.stream_features(*args, **kwargs)]


@pytest.fixture(params=[synchronous, asynchronous], ids=["sync", "async"])
def stream(request: pytest.FixtureRequest) -> Stream:
    """Return a function that streams and returns all chunks, for each client."""
    chosen: Stream = request.param
    return chosen


def assert_features(chunks: list[FeatureChunk], images: ImageArray) -> None:
    """Compare the features of each position with those of its image."""
    positions = list(itertools.chain.from_iterable(chunk.positions for chunk in chunks))
    joined = concatenate([chunk.features for chunk in chunks if chunk.features is not None])
    np.testing.assert_allclose(joined.u, GREY.encode(images)["digit.u_mean"][positions], atol=1e-5)


def test_an_array_is_streamed_in_order(stream: Stream, server: ServerProcess) -> None:
    """6,000 images are six chunks; progress counts up to the known total."""
    images = GREY.random_images(6000)
    progress: list[tuple[int, int | None]] = []
    chunks = stream(server.address, images, on_progress=lambda done, total: progress.append((done, total)))

    assert_features(chunks, images)
    assert [chunk.positions[0] for chunk in chunks] == [0, 1024, 2048, 3072, 4096, 5120]
    assert progress == [(min(1024 * k, 6000), 6000) for k in range(1, 7)]
    assert all(chunk.problems == () for chunk in chunks)


def test_an_iterator_of_images_and_batches(stream: Stream, server: ServerProcess) -> None:
    """Single images and batches of unknown number; outputs are chosen as for `features`."""
    images = GREY.random_images(50)
    progress: list[tuple[int, int | None]] = []

    def source() -> Iterator[ImageArray]:
        yield from images[:3]
        yield images[3:40]
        yield images[40:45]
        yield from images[45:, ..., 0]

    chunks = stream(
        server.address,
        source(),
        include=("u_mean", "negative_elbo"),
        on_progress=lambda done, total: progress.append((done, total)),
    )

    assert [len(chunk.positions) for chunk in chunks] == [3, 37, 5, 5]
    assert_features(chunks, images)
    assert progress == [(3, None), (40, None), (45, None), (50, None)]
    assert chunks[1].features is not None
    assert chunks[1].features.negative_elbo is not None
    np.testing.assert_allclose(chunks[1].features.negative_elbo, GREY.score(images)["negative_elbo"][3:40], rtol=1e-5)


def test_unusable_images_are_problems(stream: Stream, server: ServerProcess, tmp_path: Path) -> None:
    """Files that cannot be read or decoded are reported with position and name; the others have features."""
    images = GREY.random_images(4)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, pixels in zip(paths, images[..., 0], strict=True):
        Image.fromarray(pixels).save(path)
    gif, missing = tmp_path / "a.gif", tmp_path / "missing.png"
    gif.write_bytes(b"%PDF-1.7")
    items = [missing, paths[0], gif, paths[1], 3.5, paths[2], paths[3], missing]
    chunks = stream(server.address, items)

    assert [list(chunk.positions) for chunk in chunks] == [[1, 3, 5, 6]]
    (chunk,) = chunks
    assert chunk.features is not None
    np.testing.assert_allclose(chunk.features.u, GREY.encode(images)["digit.u_mean"], atol=1e-5)
    assert [(problem.index, problem.name) for problem in chunk.problems] == [
        (0, str(missing)),
        (2, str(gif)),
        (4, ""),
        (7, str(missing)),
    ]
    reasons = [problem.reason for problem in chunk.problems]
    assert reasons[0] == reasons[3] == "No such file or directory"
    assert reasons[1] == "PDF is not supported: send a PNG, JPEG, WebP, BMP, TIFF or GIF file"
    assert reasons[2].startswith("image 4: float is not an image")


def test_only_unusable_images(stream: Stream, server: ServerProcess) -> None:
    """Chunks without features: nothing was sent, or the server could use nothing."""
    nothing_sent = stream(server.address, ["missing.png"])
    nothing_used = stream(server.address, [b"nonsense", b"%PDF-1.7"])

    for chunks, count in ((nothing_sent, 1), (nothing_used, 2)):
        assert [(chunk.features, list(chunk.positions), len(chunk.problems)) for chunk in chunks] == [(None, [], count)]


def test_only_a_few_chunks_are_read_ahead(server: ServerProcess) -> None:
    """A paused reader pauses the source, so that memory stays bounded."""
    taken: list[int] = []

    def source() -> Iterator[ImageArray]:
        for number in range(5000):
            taken.append(number)
            yield np.zeros((1000, 40, 40), np.uint8)[..., np.newaxis]

    with Client(server.address) as client:
        stream = client.stream_features(source())
        for _ in range(3):
            next(stream)
        stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(taken) < 100


@pytest.mark.slow
def test_a_stream_goes_on_after_a_restart_with_the_same_version(stream: Stream, tmp_path: Path) -> None:
    """The server is replaced by one whose newest version is another, while the source is read."""
    GREY.write(tmp_path / "tiny")
    images, answered = GREY.random_images(40), Event()
    with ExitStack() as second, running_server(tmp_path) as first:

        def source() -> Iterator[ImageArray]:
            yield images[:10]
            yield images[10:20]
            assert answered.wait(PATIENCE)
            first.stop()
            GREY.write(tmp_path / "tiny")
            second.enter_context(running_server(tmp_path, "--address", first.address))
            yield images[20:30]
            yield images[30:]

        chunks = stream(first.address, source(), on_progress=lambda *_: answered.set())
    assert [position for chunk in chunks for position in chunk.positions] == list(range(40))
    assert_features(chunks, images)
    assert [chunk.features.version for chunk in chunks if chunk.features is not None] == [1] * len(chunks)


@pytest.mark.slow
def test_a_stream_whose_server_does_not_come_back_fails(stream: Stream, tiny_models: Path) -> None:
    answered = Event()
    with running_server(tiny_models) as server:

        def source() -> Iterator[ImageArray]:
            yield GREY.random_images(3)
            assert answered.wait(PATIENCE)
            server.stop()
            yield GREY.random_images(3)

        with pytest.raises(UnavailableError, match=server.address):
            stream(server.address, source(), on_progress=lambda *_: answered.set(), settings={"timeout": 1})


def test_a_stream_without_a_server_fails(stream: Stream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(UnavailableError, match=f"no server answers at {address}"):
        stream(address, GREY.random_images(3))


def test_an_exception_of_the_source_is_raised(stream: Stream, server: ServerProcess) -> None:
    """After the features of the images before it."""

    def source() -> Iterator[bytes | ImageArray]:
        yield GREY.random_images(3)
        raise ZeroDivisionError("the camera failed")

    with pytest.raises(ZeroDivisionError, match="the camera failed"):
        stream(server.address, source())


@pytest.mark.parametrize(
    ("settings", "images", "include", "kind", "message"),
    [
        ({"model": "tinny"}, GREY.random_images(2), ("probs",), NotFoundError, "no model is named 'tinny'"),
        ({}, GREY.random_images(2), (), InvalidRequestError, "include is empty"),
        ({}, GREY.random_images(2), ("prob",), InvalidRequestError, "include has 'prob', which is not a feature"),
        ({}, [], ("probs",), InvalidRequestError, "there are no images in the call"),
        ({}, np.zeros((2, 8, 6)), ("probs",), InvalidRequestError, "images are uint8"),
    ],
)
def test_errors_of_a_whole_stream(
    stream: Stream, server: ServerProcess, settings: Any, images: Any, include: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        stream(server.address, images, include=include, settings=settings)


def test_a_silent_server_raises_deadline_error(stream: Stream) -> None:
    """The timeout applies to the oldest pending chunk, not to the stream."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeadlineError, match=f"the server at {address} did not answer in time"):
            stream(address, GREY.random_images(2), settings={"timeout": 0.2})


@pytest.mark.slow
def test_a_slow_source_does_not_time_out(stream: Stream, server: ServerProcess) -> None:
    """The timeout does not run while no chunk is pending."""

    def source() -> Iterator[ImageArray]:
        for seed in range(3):
            time.sleep(0.4)
            yield GREY.random_images(1, seed)

    assert len(stream(server.address, source(), settings={"timeout": 0.3})) == 3
