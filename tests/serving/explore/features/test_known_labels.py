"""True labels that are beside the images: of data sets in the format of MNIST, and of folders."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partedvae.serving.explore.features.feature_map import FeatureMap
from partedvae.serving.explore.features.file import read_features
from partedvae.serving.explore.features.known_labels import with_known_labels
from partedvae.serving.extract.sources.options import PATH_STYLES
from tests.bundles import COLOURED, GREY
from tests.serving.extraction import extract, idx

IMAGES = GREY.random_images(12)
LABELS = np.arange(12, dtype=np.uint8) % 10


@pytest.mark.parametrize("given", ["mnist:test", "mnist/t10k-images-idx3-ubyte.gz"])
def test_labels_may_be_compressed(given: str, tiny_models: Path, tmp_path: Path) -> None:
    """As they are downloaded: of a data set by its name, and beside a file of images; damaged ones are left out."""
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[..., 0])))
    labels = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(LABELS)))
    source = given if ":" in given else f"{tmp_path}/{given}"
    options = ("--data", tmp_path, "--model", tiny_models / "tiny")
    assert extract(source, tmp_path / "f.parquet", *options).exit_code == 0
    table = read_features(str(tmp_path / "f.parquet"))

    known = with_known_labels(table, source, tmp_path).categories["label"]

    assert [known.values[code] for code in known.codes] == [str(label) for label in LABELS]
    labels.write_bytes(labels.read_bytes()[:-12])
    assert with_known_labels(table, source, tmp_path).categories == {}


@pytest.fixture
def photos(two_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with four images in photos; return a model."""
    monkeypatch.chdir(tmp_path)
    for k, image in enumerate(COLOURED.random_images(4)):
        path = Path("photos") / ("inside" if k % 2 else ".") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return two_models / "shapes"


TABLE = (
    "file;colour;weather;shape\n0.png;red;sun;circle\ninside\\1.png;blue;;square\n2.png;?;rain;\ngone.png;red;sun;\n"
)


@pytest.mark.parametrize("style", PATH_STYLES)
def test_labels_csv_of_a_folder(style: str, photos: Path) -> None:
    """Whatever the paths in the features are like; an unknown label is none, a factor that is not learned is shown."""
    Path("photos/labels.csv").write_text(TABLE)
    assert extract("photos", "f.parquet", "--model", photos, "--path-style", style).exit_code == 0

    shown = FeatureMap("f.parquet")

    texts = {
        name: [shown.colourings[f"column:{name}"].describe(point) for point in range(4)]
        for name in ("colour", "weather", "shape")
    }
    assert texts == {
        "colour": ["red", "-", "blue", "-"],
        "weather": ["sun", "rain", "-", "-"],
        "shape": ["circle", "-", "square", "-"],
    }
    order = [Path(key).name for key in shown.table.keys.to_pylist()]
    assert order == ["0.png", "2.png", "1.png", "3.png"]
    predicted = COLOURED.encode(COLOURED.random_images(4))["colour.probs"].argmax(axis=1)
    classes = shown.table.factor("colour").classes
    assert classes is not None
    wrong = [classes.values[predicted[0]] != "red", classes.values[predicted[1]] != "blue"]
    assert shown.colourings["error:colour"].codes.tolist() == [wrong[0], 255, wrong[1], 255]
    assert shown.table.categories["colour"].values == classes.values


def test_a_column_of_the_input_keeps_its_name(photos: Path) -> None:
    Path("list.csv").write_text("path,weather\n0.png,fog\ninside/1.png,sun\n")
    Path("photos/labels.csv").write_text(TABLE)
    options = ("--root", "photos", "--columns", "weather", "--model", photos)
    assert extract("list.csv", "f.parquet", *options).exit_code == 0

    shown = FeatureMap("f.parquet", "photos")

    described = shown.describe(0)
    assert "weather: fog" in described
    assert described[-3:] == ["colour: red", "weather of labels.csv: sun", "shape: circle"]


def test_an_invalid_labels_csv_is_reported(photos: Path) -> None:
    """The map is shown without it, as it is without one."""
    Path("photos/labels.csv").write_text("file,colour\n0.png\n")
    assert extract("photos", "f.parquet", "--model", photos).exit_code == 0
    table = FeatureMap("f.parquet").table
    assert not set(table.categories) - {"unfamiliar"}
    assert table.notes == [
        "labels are not shown: photos/labels.csv, line 2: 1 values for 2 columns; quote values "
        "that contain the separator, or add missing ones"
    ]
    Path("photos/labels.csv").unlink()
    assert FeatureMap("f.parquet").table.notes == []
