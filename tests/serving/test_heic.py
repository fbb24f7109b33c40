"""HEIC files in serving, with the package pillow-heif and without it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from partedvae import InvalidRequestError
from partedvae.serving import load
from partedvae.serving.errors import ImageError
from partedvae.serving.images import decode
from tests.bundles import COLOURED
from tests.partedvae.conftest import Call, asynchronous, synchronous
from tests.processes import ServerProcess
from tests.serving.extraction import extract
from tests.serving.pictures import file_of, heic_of

SPEC = COLOURED.manifest().image
SIZE = (COLOURED.width, COLOURED.height)
HEADER = bytes.fromhex("00000018667479706865696300000000")
MISSING = "HEIC needs the package pillow-heif: pip install 'partedvae[heic]'"


def photo(width: int = 60, height: int = 50) -> Image.Image:
    """Return a smooth picture in colour."""
    corners = np.random.default_rng(1).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a photograph as HEIC and as PNG, and a large one that clients shrink."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(file_of(photo()))
    (folder / "b.heic").write_bytes(heic_of(photo()))
    (folder / "c.HIF").write_bytes(heic_of(photo(1200, 1000)))
    return folder


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA"])
def test_the_pixels_are_those_of_the_picture(mode: str) -> None:
    picture = photo().convert(mode)
    (from_heic,), (from_png,) = decode([heic_of(picture)], SPEC), decode([file_of(picture)], SPEC)
    assert np.abs(from_heic.astype(int) - from_png).max() <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photographs_are_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {
        1: photo(),
        3: photo().transpose(Image.Transpose.ROTATE_180),
        6: photo().transpose(Image.Transpose.ROTATE_90),
        8: photo().transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    (upright,), (plain,) = decode([heic_of(turned, exif=exif.tobytes())], SPEC), decode([file_of(photo())], SPEC)
    assert np.abs(upright.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("call", [synchronous, pytest.param(asynchronous, marks=pytest.mark.exhaustive)])
def test_clients_and_server(call: Call, two_model_server: ServerProcess, folder: Path) -> None:
    """Small files are decoded by the server, large ones by the client."""
    paths = sorted(folder.iterdir())
    features = call(two_model_server.address, "features", paths, settings={"model": "shapes"})
    expected = COLOURED.encode(decode([path.read_bytes() for path in paths], SPEC))
    np.testing.assert_allclose(features["shape"].u_mean, expected["shape.u_mean"], atol=1e-4)
    np.testing.assert_allclose(features["shape"].u_mean[1], features["shape"].u_mean[0], atol=0.02)


@pytest.mark.exhaustive
def test_extraction(folder: Path, two_models: Path, two_model_server: ServerProcess, tmp_path: Path) -> None:
    """In process and through a server."""
    local, remote = tmp_path / "local.parquet", tmp_path / "remote.parquet"
    results = [
        extract(folder, local, "--model", two_models / "shapes"),
        extract(folder, remote, "--server", two_model_server.address, "--model-name", "shapes"),
    ]
    for output, result in zip((local, remote), results, strict=True):
        assert (result.exit_code, result.stderr) == (0, "")
        table = pq.read_table(output)
        assert table["path"].to_pylist() == ["a.png", "b.heic", "c.HIF"]
        assert table["error"].null_count == 3
        u = table["shape_u0"].to_numpy()
        assert np.abs(u - u[0]).max() < 0.05


@pytest.mark.exhaustive
def test_without_the_package(two_models: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the remedy; in a folder they are counted as left out."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # As where it is not installed: the import fails.
    with pytest.raises(ImageError, match=re.escape(MISSING)):
        decode([HEADER], SPEC)
    with pytest.raises(InvalidRequestError, match=re.escape(MISSING)):
        load(two_models / "shapes").features([folder / "b.heic"])
    result = extract(folder, tmp_path / "x.parquet", "--model", two_models / "shapes")
    assert result.exit_code == 0
    assert f"left out: 1 ending in .heic, which needs pip install 'partedvae[heic]' ({folder / 'b.heic'})" in (
        result.stderr
    )
    assert pq.read_table(tmp_path / "x.parquet")["path"].to_pylist() == ["a.png"]


@pytest.mark.parametrize("length", [20, 100, -50])
def test_damaged_files(length: int) -> None:
    """In one line."""
    with pytest.raises(ImageError, match=r"^image 0: damaged HEIF file: [^\n]+$"):
        decode([heic_of(photo())[:length]], SPEC)
