"""Images of points: those that the features were extracted from, or what the model draws; nothing else is read."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partedvae.errors import UnavailableError
from partedvae.results import FloatArray, ImageArray
from partedvae.serving import load
from partedvae.serving.explore.features import images as module
from partedvae.serving.explore.features.feature_map import FeatureMap
from partedvae.serving.explore.features.file import read_features
from partedvae.serving.explore.features.images import PointImages
from partedvae.serving.explore.features.table import FeatureTable
from partedvae.serving.explore.model import AsyncLocalModel, ModelAccess
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import InputOptions
from partedvae.serving.extract.sources.source import Source
from tests.bundles import GREY
from tests.serving.extraction import extract, idx

SPEC = GREY.manifest().image
IMAGES = GREY.random_images(20)


async def decode(u: FloatArray, z: FloatArray) -> ImageArray:
    return GREY.decode(u, z)


async def failing(u: FloatArray, z: FloatArray) -> ImageArray:
    raise UnavailableError("no server answers at 127.0.0.1:1")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Write the images into a folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(IMAGES):
        Image.fromarray(image[..., 0]).save(folder / f"{i:02}.png")
    return folder


def features(source: Path | str, model: Path, output: Path, *options: object) -> FeatureTable:
    result = extract(source, output, "--model", model, "--include", "class,u,z", *options)
    assert result.exit_code == 0, result.output
    return read_features(str(output))


def pixels(png: bytes) -> ImageArray:
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("style", ["relative", "as-given", "absolute", "url"])
async def test_images_of_a_folder(style: str, pictures: Path, tiny_models: Path, tmp_path: Path) -> None:
    """Its name is in the footer, and its list has the hash of the footer."""
    options = ("--path-style", style)
    images = PointImages(features(pictures, tiny_models / "tiny", tmp_path / "f.parquet", *options))

    for image, point in zip(await images.get([3, 17], SPEC, decode), (3, 17), strict=True):
        assert (image.point, image.kind, image.reason) == (point, "image", "")
        np.testing.assert_array_equal(pixels(image.png), IMAGES[point, ..., 0])


async def test_images_of_an_array(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "images-idx3-ubyte").write_bytes(idx(IMAGES[..., 0]))
    table = features(tmp_path / "images-idx3-ubyte", tiny_models / "tiny", tmp_path / "f.arrow")
    (image,) = await PointImages(table).get([5], SPEC)
    np.testing.assert_array_equal(pixels(image.png), IMAGES[5, ..., 0])


async def test_images_of_a_data_set(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    (tmp_path / "data" / "mnist" / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[..., 0]))
    options = ("--data", tmp_path / "data")
    table = features("mnist:test", tiny_models / "tiny", tmp_path / "f.npz", *options)
    (image,) = await PointImages(table, data_dir=tmp_path / "data").get([19], SPEC)
    np.testing.assert_array_equal(pixels(image.png), IMAGES[19, ..., 0])
    (image,) = await PointImages(table, data_dir=tmp_path / "elsewhere").get([19], SPEC)
    assert image.kind == "missing"
    assert "the data set mnist is not in" in image.reason


async def test_without_the_images_the_model_draws_them(pictures: Path, tiny_models: Path, tmp_path: Path) -> None:
    """From u and z, and says that it did; without a model they are missing."""
    table = features(pictures, tiny_models / "tiny", tmp_path / "f.parquet")
    pictures.rename(tmp_path / "moved")
    drawn = await PointImages(table).get([2, 9], SPEC, decode)

    assert table.u is not None
    assert table.z is not None
    expected = GREY.decode(table.u, table.z)
    for image, point in zip(drawn, (2, 9), strict=True):
        assert image.kind == "reconstruction"
        assert image.reason.startswith(f"{pictures} does not exist")
        assert image.reason.endswith("pass --images INPUT, the images of the features")
        np.testing.assert_array_equal(pixels(image.png), expected[point, ..., 0])
    (missing,) = await PointImages(table).get([2], SPEC)
    assert (missing.kind, missing.png) == ("missing", b"")


async def test_another_model_draws_none(pictures: Path, tiny_models: Path, tmp_path: Path) -> None:
    """Such as one that was trained again since: its images of these u and z are others."""
    output = tmp_path / "f.parquet"
    features(pictures, tiny_models / "tiny", output)
    pictures.rename(tmp_path / "moved")
    dataclasses.replace(GREY, seed=7).write(tmp_path / "again" / "tiny")
    shown = FeatureMap(str(output))
    found = []
    for folder in (tmp_path / "again", tiny_models):
        model = ModelAccess(AsyncLocalModel(load(folder / "tiny")), str(folder))
        await model.ask()
        found += await shown.images([2], model)
        await model.call.close()

    assert [image.kind for image in found] == ["missing", "reconstruction"]
    assert found[0].reason.startswith(f"{pictures} does not exist")
    assert found[0].reason.endswith("; the model of these pages is not the one of the features, and cannot draw it")


async def test_a_changed_folder_is_read_only_if_the_command_names_it(
    pictures: Path, tiny_models: Path, tmp_path: Path
) -> None:
    """A footer of somebody else could name any folder. Images are found by their names."""
    table = features(pictures, tiny_models / "tiny", tmp_path / "f.parquet")
    (pictures / "00.png").unlink()
    os.utime(pictures / "07.png", (1, 1))

    (refused,) = await PointImages(table).get([7], SPEC)
    assert refused.kind == "missing"
    assert "have changed since their features were extracted; pass --images INPUT" in refused.reason
    moved = pictures.rename(tmp_path / "moved")
    gone, image = await PointImages(table, str(moved)).get([0, 7], SPEC)
    assert (gone.kind, gone.reason) == ("missing", "00.png is not among the images any more")
    np.testing.assert_array_equal(pixels(image.png), IMAGES[7, ..., 0])


async def test_rows_of_another_folder_are_not_read(pictures: Path, tiny_models: Path, tmp_path: Path) -> None:
    """Only names in the list of the images are: a path that leads out of it is not one."""
    (tmp_path / "secret.png").write_bytes((pictures / "00.png").read_bytes())
    forged = tmp_path / "forged.csv"
    forged.write_text("path,digit,digit_prob,u0,u1,u2\n../secret.png,1,1,0,0,0\n/etc/passwd,1,1,0,0,1\n")
    images = await PointImages(read_features(str(forged)), str(pictures)).get([0, 1], SPEC)

    assert [image.kind for image in images] == ["missing", "missing"]
    assert images[0].reason == "../secret.png is not among the images any more"


async def test_images_that_do_not_fit_are_not_shown(pictures: Path, tiny_models: Path, tmp_path: Path) -> None:
    table = features(pictures, tiny_models / "tiny", tmp_path / "f.csv")
    (image,) = await PointImages(table).get([0], SPEC)
    assert image.reason == "the file does not say which images it was made of; pass --images INPUT"
    (image,) = await PointImages(table, str(pictures)).get([0], SPEC)
    assert image.kind == "image"
    np.save(tmp_path / "few.npy", IMAGES[:5])
    (image,) = await PointImages(table, str(tmp_path / "few.npy")).get([0], SPEC)
    assert image.reason == "the features are of images with path, and these have index"
    (tmp_path / "all.npy").write_bytes(b"")
    np.save(tmp_path / "all.npy", IMAGES)
    table = features(tmp_path / "all.npy", tiny_models / "tiny", tmp_path / "all.parquet")
    (image,) = await PointImages(table, str(tmp_path / "few.npy")).get([0], SPEC)
    assert image.reason == "there are 5 images, and the features are of 20"


async def test_points_that_could_not_be_drawn_are_drawn_later(
    pictures: Path, tiny_models: Path, tmp_path: Path
) -> None:
    """A server that has not answered yet draws nothing: without a size and a model."""
    images = PointImages(features(pictures, tiny_models / "tiny", tmp_path / "f.parquet"))
    pictures.rename(tmp_path / "moved")

    assert [image.kind for image in await images.get([2, 2])] == ["missing", "missing"]
    assert [image.kind for image in await images.get([2], SPEC, decode)] == ["reconstruction"]


async def test_a_model_that_fails_hides_no_image_that_was_read(
    pictures: Path, tiny_models: Path, tmp_path: Path
) -> None:
    images = PointImages(features(pictures, tiny_models / "tiny", tmp_path / "f.parquet"))
    await images.get([1], SPEC)
    (pictures / "02.png").unlink()
    read, lost = await images.get([1, 2], SPEC, failing)
    assert (read.kind, lost.kind) == ("image", "missing")
    assert lost.reason == "No such file or directory; no server answers at 127.0.0.1:1"
    (drawn,) = await images.get([2], SPEC, decode)
    assert drawn.kind == "reconstruction"


async def test_a_folder_that_comes_back_is_read(
    pictures: Path, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    images = PointImages(features(pictures, tiny_models / "tiny", tmp_path / "f.parquet"))
    pictures.rename(tmp_path / "moved")
    assert [image.kind for image in await images.get([2], SPEC, decode)] == ["reconstruction"]
    (tmp_path / "moved").rename(pictures)
    assert [image.kind for image in await images.get([2], SPEC, decode)] == ["image"]


async def test_a_drawn_image_is_not_drawn_again_at_once(
    pictures: Path, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the folder opened again, whose storage may take seconds to refuse."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 3600.0)
    opened: list[str] = []

    def opening(given: str, options: InputOptions) -> Source:
        opened.append(given)
        return open_source(given, options)

    monkeypatch.setattr(module, "open_source", opening)
    images = PointImages(features(pictures, tiny_models / "tiny", tmp_path / "f.parquet"))
    pictures.rename(tmp_path / "moved")
    (first,) = await images.get([2], SPEC, decode)
    assert await images.get([2, 2], SPEC, failing) == [first, first]
    (tmp_path / "moved").rename(pictures)
    assert [image.kind for image in await images.get([2, 3], SPEC, decode)] == ["reconstruction", "reconstruction"]
    assert len(opened) == 1


async def test_a_drawn_image_does_not_replace_one_that_was_read_meanwhile(
    pictures: Path, tiny_models: Path, tmp_path: Path
) -> None:
    """One visitor's model is slow, and the image comes back for another one."""
    images = PointImages(features(pictures, tiny_models / "tiny", tmp_path / "f.parquet"))
    await images.get([1], SPEC)
    (pictures / "02.png").rename(tmp_path / "moved.png")
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(u: FloatArray, z: FloatArray) -> ImageArray:
        asked.set()
        await answer.wait()
        return await decode(u, z)

    first = asyncio.create_task(images.get([2], SPEC, slow))
    await asked.wait()
    (tmp_path / "moved.png").rename(pictures / "02.png")
    assert [image.kind for image in await images.get([2], SPEC)] == ["image"]
    answer.set()
    assert [image.kind for image in await first] == ["reconstruction"]
    (pictures / "02.png").unlink()
    assert [image.kind for image in await images.get([2], SPEC)] == ["image"]


async def test_points_may_be_forgotten_while_others_are_read(
    pictures: Path, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More points than are kept, by several visitors at once."""
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    images = PointImages(features(pictures, tiny_models / "tiny", tmp_path / "f.parquet"))
    await images.get([0, 1], SPEC)

    answers = await asyncio.gather(images.get([0, 1, 2], SPEC), images.get([3, 4, 5], SPEC), images.get([1, 6], SPEC))

    assert [[image.point for image in answer] for answer in answers] == [[0, 1, 2], [3, 4, 5], [1, 6]]
