"""Fixtures of the tests of batch extraction."""

from pathlib import Path

import pytest
from PIL import Image

from partedvae.results import ImageArray
from tests.bundles import GREY
from tests.serving.extraction import COUNT


@pytest.fixture
def images() -> ImageArray:
    """Return images of the tiny model's size."""
    return GREY.random_images(COUNT)


@pytest.fixture
def folder(tmp_path: Path, images: ImageArray) -> Path:
    """Write twelve of the images into a folder with subfolders, and two files that are no images."""
    folder = tmp_path / "images"
    (folder / "deep" / "er").mkdir(parents=True)
    for i in range(12):
        place = (folder, folder / "deep", folder / "deep" / "er")[i % 3]
        Image.fromarray(images[i, ..., 0]).save(place / f"{i:02}.png")
    (folder / "05-bad.PNG").write_bytes(b"nonsense")
    (folder / "deep" / "animation.jpg").write_bytes(b"%PDF-1.7")
    (folder / "notes.txt").write_text("not an image, and not to be read")
    return folder
