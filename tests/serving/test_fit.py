"""A served model fits images of another shape as it was trained: files, arrays and pixels, through every way in."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from partedvae import Client
from partedvae.cli.commands import models as models_command
from partedvae.common.fit import FITS, Fit
from partedvae.oip import inference_pb2 as oip
from partedvae.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from partedvae.results import FloatArray, ImageArray
from partedvae.serving import load
from partedvae.serving.bundle import load_bundle
from partedvae.serving.errors import BundleError
from partedvae.serving.extract.command import extract
from partedvae.serving.manifest import MANIFEST_FILE, read_manifest
from partedvae.v1.manifest_pb2 import FIT_UNSPECIFIED
from tests.bundles import COLOURED
from tests.processes import ServerProcess, running_server

SQUARE = replace(COLOURED, height=12, width=12)


def photo(width: int, height: int) -> ImageArray:
    """Return uint8 [height, width, 3] of smooth noise without black."""
    random = np.random.Generator(np.random.PCG64(width))
    small = random.integers(50, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


WIDE, TALL, SMALL = photo(640, 360), photo(360, 640), photo(64, 32)
"""WIDE and TALL are shrunk by the client before they are sent, SMALL is not."""


def reference(image: ImageArray, fit: Fit) -> FloatArray:
    """Return u of an image that Pillow alone has fitted to 12x12 pixels."""
    whole, height, width = Image.fromarray(image), *image.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    bilinear = Image.Resampling.BILINEAR
    if fit == "stretch":
        fitted = whole.resize((12, 12), bilinear)
    elif fit == "crop":
        fitted = whole.resize((12, 12), bilinear, box=(left, top, left + side, top + side))
    else:
        longer = max(width, height)
        inside = whole.resize((round(12 * width / longer), round(12 * height / longer)), bilinear)
        fitted = Image.new("RGB", (12, 12), "black")
        fitted.paste(inside, ((12 - inside.width) // 2, (12 - inside.height) // 2))
    encoded = SQUARE.encode(np.asarray(fitted)[np.newaxis])
    return np.concatenate([encoded["shape.u_mean"], encoded["colour.u_mean"]], axis=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three models that differ in their fit, which is their name."""
    folder = tmp_path_factory.mktemp("models")
    for fit in FITS:
        replace(SQUARE, fit=fit).write(folder / fit)
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ServerProcess]:
    with running_server(models) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return files of the three images."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{name}.png" for name in ("0-wide", "1-tall", "2-small")]
    for path, image in zip(paths, (WIDE, TALL, SMALL), strict=True):
        Image.fromarray(image).save(path)
    return paths


def expected(fit: Fit) -> FloatArray:
    return np.concatenate([reference(image, fit) for image in (WIDE, TALL, SMALL)])


def test_the_fits_differ() -> None:
    """Otherwise the tests below would show nothing."""
    for one, other in itertools.combinations(FITS, 2):
        assert np.abs(expected(one) - expected(other)).max(axis=1).min() > 0.01


@pytest.mark.parametrize("fit", FITS)
def test_in_process(models: Path, files: list[Path], fit: Fit) -> None:
    """Files, Pillow images, and arrays, one by one and many at once."""
    model = load(models / fit)
    assert model.info.fit == model.info.to_dict()["fit"] == fit
    np.testing.assert_allclose(model.features(files).u, expected(fit), atol=1e-5)
    np.testing.assert_allclose(model.features([Image.open(path) for path in files]).u, expected(fit), atol=1e-5)
    np.testing.assert_allclose(model.features([WIDE, TALL, SMALL]).u, expected(fit), atol=1e-5)
    twice = np.concatenate([reference(WIDE, fit)] * 2)
    np.testing.assert_allclose(model.features(np.stack([WIDE, WIDE])).u, twice, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS)
def test_through_a_server(server: ServerProcess, files: list[Path], fit: Fit) -> None:
    """The same where the client shrinks an image, and where the server resizes it."""
    with Client(server.address, model=fit) as client:
        assert client.model_info().fit == fit
        for images in (
            files,
            [path.read_bytes() for path in files],
            [WIDE, TALL, SMALL],
            [Image.open(path) for path in files],
            [Image.open(path).convert("RGBA") for path in files],
        ):
            np.testing.assert_allclose(client.features(images).u, expected(fit), atol=1e-5)
        streamed = np.concatenate([chunk.features.u for chunk in client.stream_features(files) if chunk.features])
        np.testing.assert_allclose(streamed, expected(fit), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS)
def test_by_the_open_inference_protocol(server: ServerProcess, files: list[Path], fit: Fit) -> None:
    """Files are fitted by the server; the metadata say how, for those who send pixels."""
    contents = [path.read_bytes() for path in files]
    raw = b"".join(struct.pack("<I", len(content)) + content for content in contents)
    request = oip.ModelInferRequest(model_name=f"{fit}.encoder", raw_input_contents=[raw])
    request.inputs.add(name="images", datatype="BYTES", shape=[len(contents)])
    request.outputs.add(name="shape.u_mean")
    with grpc.insecure_channel(server.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        (u,) = stub.ModelInfer(request).raw_output_contents
        encoder = stub.ModelMetadata(oip.ModelMetadataRequest(name=f"{fit}.encoder"))
        decoder = stub.ModelMetadata(oip.ModelMetadataRequest(name=f"{fit}.decoder"))
    np.testing.assert_allclose(np.frombuffer(u, "<f4").reshape(3, -1), expected(fit)[:, :2], atol=1e-5)
    assert encoder.properties["fit"] == fit
    assert "fit" not in decoder.properties


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_extraction(server: ServerProcess, models: Path, files: list[Path], tmp_path: Path, fit: Fit) -> None:
    """From a folder and from an array, in process and through a server."""
    np.save(tmp_path / "wide.npy", np.stack([WIDE, WIDE]))
    in_process = ["--overwrite", "--model", str(models / fit)]
    through_server = ["--overwrite", "--server", server.address, "--model-name", fit]
    for source, rows in ((files[0].parent, expected(fit)), (tmp_path / "wide.npy", [reference(WIDE, fit)[0]] * 2)):
        for options in (in_process, through_server):
            output = tmp_path / "features.parquet"
            result = CliRunner().invoke(extract, [str(source), "--output", str(output), *options])
            assert result.exit_code == 0, result.output
            table = pq.read_table(output)
            u = np.stack([table[name].to_numpy() for name in ("shape_u0", "shape_u1", "colour_u0")], axis=1)
            np.testing.assert_allclose(u, rows, atol=1e-5)


@pytest.mark.slow
def test_the_command_lists_the_fit_of_each_model(server: ServerProcess) -> None:
    result = CliRunner().invoke(models_command, ["--server", server.address, "--json"])
    assert {entry["name"]: entry["fit"] for entry in json.loads(result.stdout)["models"]} == {fit: fit for fit in FITS}


def edited(folder: Path, **image: object) -> Path:
    """Write a bundle that pads, and change its manifest's `image`; None removes a field."""
    bundle = replace(SQUARE, fit="pad").write(folder)
    manifest = json.loads((bundle.folder / MANIFEST_FILE).read_text())
    manifest["image"] = {key: value for key, value in {**manifest["image"], **image}.items() if value is not None}
    (bundle.folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    return bundle.folder


def test_a_bundle_that_earlier_servers_would_misread_has_a_format_that_they_refuse(models: Path) -> None:
    """They would stretch the images without a word."""
    assert {fit: read_manifest(models / fit / "1").format_version for fit in FITS} == {
        "stretch": 1,
        "pad": 2,
        "crop": 2,
    }


def test_a_bundle_without_the_field_stretches(models: Path, tmp_path: Path) -> None:
    """As bundles of 0.2.0 and before."""
    folder = models / "stretch" / "1"
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    del manifest["image"]["fit"]
    (tmp_path / "1").mkdir()
    for path in folder.iterdir():
        (tmp_path / "1" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "1" / MANIFEST_FILE).write_text(json.dumps(manifest))
    assert load_bundle(tmp_path / "1").manifest.image.fit == FIT_UNSPECIFIED
    model = load(tmp_path / "1")
    assert model.info.fit == "stretch"
    np.testing.assert_allclose(model.features([WIDE, TALL, SMALL]).u, expected("stretch"), atol=1e-5)


@pytest.mark.parametrize("value", ["FIT_BLUR", 9, None, "FIT_STRETCH"])
def test_a_fit_of_a_later_version_is_refused(tmp_path: Path, value: object) -> None:
    """Also where its name is not known, and is read as if it were absent."""
    with pytest.raises(BundleError, match=r"image\.fit is none of stretch, pad, crop; install the version of"):
        load_bundle(edited(tmp_path / "model", fit=value))
