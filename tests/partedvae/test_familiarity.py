"""Tests of the warnings of images unlike the training images, of both clients and of the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from partedvae import Client, UnfamiliarImageWarning
from partedvae.cli.main import main
from partedvae.serving import load
from tests.familiar import IMAGES, MODEL, SCORES, TEXTS
from tests.partedvae.conftest import Call
from tests.processes import ServerProcess, running_server

WARNING = (
    "^4 of 7 images are unlike the training images, so that their classes and features may be wrong: 3, 4, 5, 6; 2 of "
    "them would be like the training images when inverted: pass 255 - x for each pixel x"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("familiar")
    MODEL.write(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def familiar_server(models: Path) -> Iterator[ServerProcess]:
    with running_server(models) as process:
        yield process


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Write the images as files."""
    paths = [tmp_path / "images" / f"{k}.png" for k in range(len(IMAGES))]
    paths[0].parent.mkdir()
    for path, pixels in zip(paths, IMAGES, strict=True):
        Image.fromarray(pixels[..., 0]).save(path)
    return [str(path) for path in paths]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("method", "options"), [("classify", {}), ("features", {"include": ("unfamiliar",)})])
def test_clients_warn(call: Call, familiar_server: ServerProcess, method: str, options: dict[str, Any]) -> None:
    """The warning counts the images, and says which, and how many would be familiar when inverted."""
    with pytest.warns(UnfamiliarImageWarning, match=WARNING):
        result = call(familiar_server.address, method, IMAGES, **options)
    assert result.unfamiliar.tolist() == TEXTS


def test_a_model_in_this_process_warns(models: Path) -> None:
    model = load(models / "tiny", device="cpu", threads=1)

    with pytest.warns(UnfamiliarImageWarning, match=WARNING):
        assert model.classify(IMAGES).to_dict()["unfamiliar"] == [text or None for text in TEXTS]
    with pytest.warns(UnfamiliarImageWarning, match=WARNING):
        model.features(IMAGES, include=("unfamiliar",))


def test_scores_warn_too(call: Call, familiar_server: ServerProcess) -> None:
    """Whether their inverse is familiar is not known without another score."""
    with pytest.warns(UnfamiliarImageWarning, match="^4 of 7 images are unlike the training images.*: 3, 4, 5, 6$"):
        result = call(familiar_server.address, "features", IMAGES, include=("negative_elbo",))
    np.testing.assert_allclose(result.negative_elbo, SCORES, rtol=1e-5)


def test_the_check_can_be_left_out(call: Call, familiar_server: ServerProcess) -> None:
    """Any warning would be an error."""
    assert call(familiar_server.address, "classify", IMAGES, check_familiarity=False).unfamiliar is None
    assert call(familiar_server.address, "features", IMAGES).unfamiliar is None


def test_familiar_images_do_not_warn(call: Call, familiar_server: ServerProcess) -> None:
    assert call(familiar_server.address, "classify", IMAGES[:3]).unfamiliar.tolist() == ["", "", ""]


def test_a_bundle_of_an_earlier_export_goes_on_working(call: Call, server: ServerProcess) -> None:
    """Its classes are not checked."""
    assert call(server.address, "classify", IMAGES).unfamiliar is None


def test_a_stream_reports_each_image(familiar_server: ServerProcess) -> None:
    with Client(familiar_server.address) as client:
        (chunk,) = client.stream_features(IMAGES, include=("unfamiliar",))
    assert chunk.features is not None
    assert chunk.features.unfamiliar is not None
    assert chunk.features.unfamiliar.tolist() == TEXTS
    assert chunk.to_pandas()["unfamiliar"].isna().tolist() == [not text for text in TEXTS]


def test_classify_has_a_column_and_a_warning(familiar_server: ServerProcess, files: list[str]) -> None:
    """The column is there only if it has a text."""
    result = run("classify", *files, "--server", familiar_server.address)

    assert result.exit_code == 0
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["IMAGE", "DIGIT", "PROB", "UNFAMILIAR"]
    assert [row[header.index("UNFAMILIAR") :] for row in rows] == TEXTS
    assert f"warning: {files[3]} is {TEXTS[3]}; its class may be wrong\n" in result.stderr
    assert result.stderr.count("warning") == 4
    assert "UNFAMILIAR" not in run("classify", *files[:3], "--server", familiar_server.address).output


def test_classify_as_json(familiar_server: ServerProcess, server: ServerProcess, files: list[str]) -> None:
    """The field is null for a familiar image, and absent where it was not checked."""
    checked, unchecked = (
        json.loads(run("classify", files[0], files[5], "--json", "--server", each.address).stdout)["images"]
        for each in (familiar_server, server)
    )

    assert [entry["unfamiliar"] for entry in checked] == [None, TEXTS[5]]
    assert all("unfamiliar" not in entry for entry in unchecked)


@pytest.mark.parametrize("where", ["model", "server"])
def test_extract_has_a_column(
    where: str, models: Path, familiar_server: ServerProcess, files: list[str], tmp_path: Path
) -> None:
    """In both formats, beside images that cannot be read; the command counts them."""
    (tmp_path / "images" / "9.png").write_bytes(b"no image")
    options = ("--model", models / "tiny") if where == "model" else ("--server", familiar_server.address)
    for suffix in ("parquet", "npz"):
        result = run("extract", tmp_path / "images", "--output", tmp_path / f"f.{suffix}", *options)
        assert result.exit_code == 0, result.output
        message = "warning: 4 images unlike the training images (2 would be like them when inverted)"
        assert message in result.stderr

    table = pq.read_table(tmp_path / "f.parquet")
    assert table["unfamiliar"].to_pylist() == [*(text or None for text in TEXTS), None]
    assert table["error"].to_pylist()[:-1] == [None] * 7
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["unfamiliar"].tolist() == [*TEXTS, ""]


def test_extract_without_the_check(models: Path, files: list[str], tmp_path: Path) -> None:
    output = tmp_path / "f.parquet"
    result = run("extract", tmp_path / "images", "--output", output, "--model", models / "tiny", "--no-familiarity")

    assert result.exit_code == 0
    assert "unlike" not in result.output
    assert "unfamiliar" not in pq.read_table(output).column_names
