"""Tests of both clients against servers of low limits, and with images that are larger than a message."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partedvae import Client, InvalidRequestError, RequestLimits, UnavailableError
from partedvae.serving import LocalModel, load
from tests.bundles import COLOURED, GREY
from tests.partedvae.conftest import Call
from tests.processes import ServerProcess, running_server, wait_until

pytestmark = pytest.mark.slow

LARGE = dataclasses.replace(GREY, height=64, width=64)
LOWEST = ("--max-images", "7", "--max-message-mb", "1", "--max-pixels", "4000000", "--max-request-pixels", "20000")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    LARGE.write(folder / "large")
    COLOURED.write(folder / "shapes")
    return folder


@pytest.fixture(scope="module")
def lowest(models: Path) -> Iterator[ServerProcess]:
    """Run a server that takes four images of 64 x 64 per request."""
    with running_server(models, *LOWEST) as process:
        yield process


@pytest.fixture(scope="module")
def model(models: Path) -> LocalModel:
    return load(models / "large", device="cpu", threads=1)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_the_limits_are_reported(call: Call, lowest: ServerProcess) -> None:
    """As the options of the server set them, whatever the model."""
    for name in ("large", "shapes"):
        assert call(lowest.address, "model_info", name).limits == RequestLimits(
            max_message_bytes=1024 * 1024, max_images=7, max_pixels=4_000_000, max_request_pixels=20_000
        )


@pytest.mark.parametrize("kind", ["array", "list", "files", "mixed"])
def test_images_are_grouped_by_the_servers_limits(
    call: Call, lowest: ServerProcess, model: LocalModel, kind: str
) -> None:
    """30 images of every kind, the same as without a server."""
    array = LARGE.random_images(30)
    files = [png(image[..., 0]) for image in array]
    kinds: dict[str, Any] = {"array": array, "list": list(array), "files": files}
    images = kinds.get(kind, [*files[:9], *array[9:], files[0]])
    expected = model.features(images)
    settings = {"model": "large"}

    np.testing.assert_allclose(
        call(lowest.address, "features", images, settings=settings).u, expected.u, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(call(lowest.address, "classify", images, settings=settings).classes, expected.classes)
    np.testing.assert_array_equal(
        call(lowest.address, "reconstruct", images, settings=settings), model.reconstruct(images)
    )


def test_a_stream_is_grouped_by_the_servers_limits(lowest: ServerProcess, model: LocalModel) -> None:
    array = LARGE.random_images(30)
    with Client(lowest.address, model="large") as client:
        parts = list(client.stream_features(iter(array)))

    assert max(len(part.positions) for part in parts) == 4
    assert [position for part in parts for position in part.positions] == list(range(30))
    u = np.concatenate([part.features.u for part in parts if part.features is not None])
    np.testing.assert_allclose(u, model.features(array).u, rtol=1e-5, atol=1e-5)


def test_large_images_have_the_features_of_the_originals(call: Call, lowest: ServerProcess, model: LocalModel) -> None:
    """A photograph above the bytes of a message and the pixels of a request, as a file, an array and a Pillow image."""
    photo = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3)).astype(np.uint8)
    expected = model.features(photo[None]).u

    for images in (photo[None], [photo, png(photo)], Image.fromarray(photo), png(photo)):
        u = call(lowest.address, "features", images, settings={"model": "large"}).u
        np.testing.assert_allclose(u, np.repeat(expected, len(u), axis=0), rtol=1e-5, atol=1e-5)


def test_bases_and_sources_are_shrunk_too(call: Call, lowest: ServerProcess, model: LocalModel) -> None:
    """Traversals and transfers, whose images share one message."""
    photo = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3)).astype(np.uint8)[None]
    settings = {"model": "large"}

    traversal = call(lowest.address, "traverse", photo, dimensions=[1], steps=3, settings=settings)
    np.testing.assert_array_equal(traversal.images, model.traverse(photo, dimensions=[1], steps=3).images)
    transferred = call(lowest.address, "transfer", z_images=photo, u_images=photo, settings=settings)
    np.testing.assert_array_equal(transferred.images, model.transfer(z_images=photo, u_images=photo).images)


def test_an_image_above_the_servers_limit_is_refused_with_it(call: Call, lowest: ServerProcess) -> None:
    message = "an image of 2001 x 2000 has 4,002,000 pixels, more than the limit of 4,000,000 per image"
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        call(lowest.address, "features", np.zeros((1, 2001, 2000), np.uint8), settings={"model": "large"})


def test_an_image_above_the_servers_limit_is_a_problem_of_a_stream(lowest: ServerProcess) -> None:
    images = [np.zeros((64, 64), np.uint8), np.zeros((2001, 2000), np.uint8), np.zeros((64, 64), np.uint8)]
    with Client(lowest.address, model="large") as client:
        parts = list(client.stream_features(images))

    assert [position for part in parts for position in part.positions] == [0, 2]
    (problem,) = [problem for part in parts for problem in part.problems]
    assert (problem.index, "more than the limit of 4,000,000 per image" in problem.reason) == (1, True)


def test_small_images_may_have_larger_replies(call: Call, models: Path) -> None:
    """Of 8 x 6 pixels, 1,024 fit into a request of 1 MiB; their reconstructions of 64 x 64 do not fit into a reply."""
    with running_server(models, "--max-message-mb", "1") as server:
        images = GREY.random_images(600)
        reconstructed = call(server.address, "reconstruct", images, settings={"model": "large"})

    np.testing.assert_array_equal(reconstructed, load(models / "large").reconstruct(images))


def test_only_the_memory_limits_images_in_this_process(model: LocalModel) -> None:
    """More pixels, images and results than a server takes by default."""
    large = np.zeros((1, 5001, 5000), np.uint8)
    assert model.features(large).u.shape == (1, 3)
    assert model.features(png(large[0])).u.shape == (1, 3)
    assert len(model.generate(4097, seed=0).images) == 4097
    assert model.traverse(LARGE.random_images(300), dimensions=[0, 1], steps=9).images.shape[:2] == (600, 9)


def answers(client: Client) -> bool:
    """Return whether the server answers."""
    try:
        return bool(client.models())
    except UnavailableError:
        return False


@pytest.mark.exhaustive
def test_a_server_with_other_limits_at_the_same_address_is_noticed(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks again after a while, which is no time at all here."""
    images = LARGE.random_images(20)
    with running_server(models) as first, Client(first.address, model="large") as client:
        assert len(client.features(images).u) == 20
        first.stop()
        with running_server(models, "--max-images", "3", "--address", first.address):
            wait_until(
                lambda: answers(client)
            )  # gRPC waits before it connects again, the longer the more often it failed.
            with pytest.raises(InvalidRequestError, match="20 images are above the limit of 3 per request"):
                client.features(images)
            monkeypatch.setattr("partedvae.client.DETAILS_SECONDS", -1)
            assert len(client.features(images).u) == 20
