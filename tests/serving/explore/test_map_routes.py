"""Tests of the plain routes of the map's data."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from PIL import Image

from partedvae.serving.explore.command import explore
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.elements.scatter import Selection, selection_of
from partedvae.serving.explore.features.feature_map import FeatureMap
from partedvae.serving.explore.pages.map.routes import add_map_routes
from tests.bundles import GREY
from tests.serving.explore.explorer import Explorer, running_explorer
from tests.serving.extraction import extract

pytestmark = pytest.mark.slow

IMAGES = GREY.random_images(25)


@pytest.fixture(scope="module")
def features(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write features whose images are gone."""
    folder = tmp_path_factory.mktemp("features")
    np.save(folder / "images.npy", IMAGES)
    output = folder / "features.parquet"
    options = ("--model", tiny_models / "tiny", "--include", "class,u,z,negative_elbo")
    assert extract(folder / "images.npy", output, *options).exit_code == 0
    (folder / "images.npy").unlink()
    return output


@pytest.fixture(scope="module")
def explorer(tiny_models: Path, features: Path) -> Iterator[Explorer]:
    """Run an explorer of these features with their model."""
    with running_explorer("--model", tiny_models / "tiny", "--features", features) as running:
        httpx.get(f"{running.url}/map")
        yield running


def test_positions_and_colours_are_arrays(explorer: Explorer) -> None:
    """Those of a projection that is computed; browsers keep them."""
    response = httpx.get(f"{explorer.url}/map/positions?space=z&method=pca")
    assert response.status_code == 404
    assert "is not computed; open the page of the map again" in response.text
    colours = httpx.get(f"{explorer.url}/map/colours?by=class:digit")
    expected = GREY.encode(IMAGES)["digit.probs"].argmax(axis=1)
    assert np.frombuffer(colours.content, dtype=np.uint8).tolist() == expected.tolist()
    assert colours.headers["cache-control"] == "private, max-age=86400, immutable"


def test_points_are_described_and_drawn_by_the_model(explorer: Explorer) -> None:
    """Where their images cannot be read."""
    answer = httpx.get(f"{explorer.url}/map/point?point=3").json()
    encoded = GREY.encode(IMAGES)
    best = encoded["digit.probs"][3].argmax()
    assert answer["lines"][:2] == ["index 3", f"digit {best} ({encoded['digit.probs'][3].max():.1%})"]
    assert answer["picture"] == "reconstruction"
    response = httpx.get(f"{explorer.url}/map/image?point=3")
    assert response.headers["content-type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(response.content))).astype(int)
    expected = GREY.decode(encoded["digit.u_mean"], encoded["z_mean"])[3, ..., 0]
    assert np.abs(drawn - expected).max() <= 1


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("image?point=25", 404, "point is 25; there are 25 points"),
        ("image?point=-1", 404, "point is -1; there are 25 points"),
        ("point?point=99", 404, "point is 99; there are 25 points"),
        ("image?point=../../etc/passwd", 400, "point: Input should be a valid integer"),
        ("colours?by=x", 404, "by is 'x'; choose from class:digit, confidence:digit, score:negative_elbo"),
        ("positions?space=x&method=pca", 400, "space 'x' is none of u, z"),
        ("positions?space=u&method=lda", 400, "method 'lda' is none of pca, tsne, umap"),
    ],
)
def test_bad_addresses_are_named(explorer: Explorer, path: str, status: int, message: str) -> None:
    response = httpx.get(f"{explorer.url}/map/{path}")
    assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (status, "text/plain")
    assert message in response.text


async def test_browsers_keep_images_alone(
    explorer: Explorer, features: Path, tiny_models: Path, tmp_path: Path
) -> None:
    """What the model draws, and what is missing, may be read later."""
    assert httpx.get(f"{explorer.url}/map/point?point=4").headers["cache-control"] == "no-store"
    np.save(tmp_path / "images.npy", IMAGES)
    readable = tmp_path / "features.parquet"
    assert extract(tmp_path / "images.npy", readable, "--model", tiny_models / "tiny").exit_code == 0
    for file, picture, kept in (
        (features, "missing", "no-store"),
        (readable, "image", "private, max-age=86400, immutable"),
    ):
        app = FastAPI()
        add_map_routes(app, Context(features=FeatureMap(str(file))))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://map") as client:
            answer = await client.get("/map/point?point=4")
        assert (answer.json()["picture"], answer.headers["cache-control"]) == (picture, kept)


def test_selections_are_checked() -> None:
    """What a browser sends may be of another file, or of more points than are shown."""
    sent = {"points": [3, -1, 25, 24, 7, 8], "count": 6, "counts": {"0": 4, "255": 2}}

    selection = selection_of(sent, total=25, most=3)

    assert selection == Selection(points=[3, 24, 7], count=6, counts={0: 4, 255: 2})


def test_features_that_cannot_be_used_end_the_command(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"nonsense")
    for options, message in (
        (("--features", f"{tmp_path}/no.parquet"), "no.parquet does not exist; write it with 'partedvae extract'"),
        (("--features", f"{tmp_path}/bad.parquet"), "bad.parquet cannot be read"),
        (("--images", str(tmp_path), "--runs", str(tmp_path)), "--images requires --features FILE"),
    ):
        result = CliRunner().invoke(explore, [*options, "--address", "127.0.0.1:0"])
        assert isinstance(result.exception, SystemExit)
        assert message in result.output
