"""HEIC files in training, with the package pillow-heif and without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from partedvae.training.data.dataset import DataError
from partedvae.training.data.folder import load_folder
from tests.serving.pictures import heic_of
from tests.training.data.test_folder import make_folder


def test_heic_files_are_images(tmp_path: Path) -> None:
    """With pillow-heif they are trained on, in the pixels of the photograph and upright."""
    make_folder(tmp_path, "0.png,a\n1.png,a\nx.heic,b\ny.HEIF,b\n", header="file,kind")
    top = Image.new("L", (40, 40), 200)
    top.paste(100, (0, 20, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned: what is stored at the left is the top.
    (tmp_path / "x.heic").write_bytes(heic_of(top))
    (tmp_path / "y.HEIF").write_bytes(heic_of(top.transpose(Image.Transpose.ROTATE_90), exif=exif.tobytes()))
    dataset = load_folder(tmp_path)

    assert dataset.notes == ()
    assert len(dataset.train) + len(dataset.test) == 12
    found = 0
    for split in (dataset.train, dataset.test):
        for pixels, label in zip(split.images[torch.arange(len(split))], split.labels[:, 0].tolist(), strict=True):
            if label == 1:
                found += 1
                assert (pixels[:15].float() - 200).abs().max() <= 1
                assert (pixels[17:].float() - 100).abs().max() <= 1
    assert found == 2


def test_labelled_heic_files_need_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    make_folder(tmp_path, "0.png,a\n1.png,a\nx.heic,b\n2.png,b\n", header="file,kind")
    (tmp_path / "x.heic").write_bytes(bytes.fromhex("00000018667479706865696300000000"))
    with pytest.raises(
        DataError,
        match=r"x\.heic cannot be read as an image: HEIC needs the package pillow-heif: pip install 'partedvae\[heic\]",
    ):
        load_folder(tmp_path)
