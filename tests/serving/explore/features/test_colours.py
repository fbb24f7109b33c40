"""What points are coloured by, and the true labels beside the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from partedvae.serving.explore.features.colours import Colouring, colours_for
from partedvae.serving.explore.features.feature_map import FeatureMap
from tests.bundles import GREY
from tests.serving.extraction import extract, idx

IMAGES = GREY.random_images(30)


def written(path: Path, text: str) -> FeatureMap:
    path.write_text(text)
    return FeatureMap(str(path))


def test_classes_confidence_scores_and_errors(tmp_path: Path) -> None:
    """A column of the input that has classes of a factor is its truth."""
    rows = ["7,0.9,7,1.5,5", "3,0.5,7,2.5,6", "7,0.7,,3.5,7", "3,0.6,3,,8"]
    text = "path,digit,digit_prob,truth,negative_elbo,z0\n" + "\n".join(f"{i}.png,{row}" for i, row in enumerate(rows))
    colourings = written(tmp_path / "f.csv", text).colourings

    assert list(colourings) == [
        *("class:digit", "error:digit", "confidence:digit", "score:negative_elbo", "column:truth"),
    ]
    assert colourings["class:digit"].codes.tolist() == [1, 0, 1, 0]
    errors = colourings["error:digit"]
    assert errors.title == "Errors of digit (1 of 3 differ from truth)"
    assert errors.categories is not None
    assert errors.categories.values == ("correct", "wrong")
    assert errors.codes.tolist() == [0, 1, 255, 0]
    assert [errors.describe(point) for point in range(3)] == ["correct", "wrong", "-"]
    confidence = colourings["confidence:digit"]
    assert confidence.codes.argsort().tolist() == [1, 3, 2, 0]
    assert colourings["score:negative_elbo"].codes.tolist() == [0, 127, 254, 255]


def test_errors_are_those_of_the_column_with_the_name_of_the_factor(tmp_path: Path) -> None:
    """Several factors may have the same classes."""
    rows = ["a,yes,0.9,no,0.9,no,yes,1", "b,no,0.9,yes,0.9,no,no,2", "c,no,0.9,yes,0.9,yes,yes,3"]
    text = "path,beard,beard_prob,hat,hat_prob,true_hat,other,z0\n" + "\n".join(rows)
    colourings = written(tmp_path / "f.csv", text).colourings
    assert "error:beard" not in colourings
    assert colourings["error:hat"].title == "Errors of hat (1 of 3 differ from true_hat)"


def test_outliers_do_not_use_up_the_scale(tmp_path: Path) -> None:
    numbers = "\n".join(f"{i}.png,{i},1" for i in range(1000))
    text = f"path,negative_elbo,z0\n{numbers}\nx.png,1e9,1"
    colouring = written(tmp_path / "f.csv", text).colourings["score:negative_elbo"]

    assert colouring.high < 1000
    assert colouring.codes[1000] == 254
    assert colouring.codes[500] in (127, 128)


def test_features_without_classes_have_one_colour(tmp_path: Path) -> None:
    colourings = written(tmp_path / "f.csv", "path,z0,z1\na.png,1,2\nb.png,3,4\n").colourings
    assert {name: colouring.codes.tolist() for name, colouring in colourings.items()} == {"none": [0, 0]}


def test_equal_numbers_have_a_colour() -> None:
    numbers = np.ones(3, dtype=np.float32)
    assert Colouring(name="x", title="x", numbers=numbers, low=1.0, high=1.0).codes.tolist() == [0, 0, 0]


def test_each_class_has_its_own_colour() -> None:
    assert all(len(set(colours_for(count))) == count for count in (1, 20, 21, 100))


def test_labels_of_mnist_show_errors(tiny_models: Path, tmp_path: Path) -> None:
    """They lie beside its images; labels that are none of the classes are left out."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[..., 0]))
    labels = np.arange(30, dtype=np.uint8) % 10
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    output = tmp_path / "f.parquet"
    options = ("--data", tmp_path / "data", "--model", tiny_models / "tiny")
    assert extract("mnist:test", output, *options, "--include", "class,u,z").exit_code == 0
    shown = FeatureMap(str(output), data_dir=tmp_path / "data")

    predicted = GREY.encode(IMAGES)["digit.probs"].argmax(axis=1)
    assert shown.colourings["error:digit"].codes.tolist() == (predicted != labels).astype(int).tolist()
    assert shown.describe(4)[0] == "index 4"
    assert shown.describe(4)[-1] == "label: 4"
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels + 1))
    assert "error:digit" not in FeatureMap(str(output), data_dir=tmp_path / "data").colourings


def test_what_is_missing_has_a_remedy(tmp_path: Path) -> None:
    shown = written(tmp_path / "f.csv", "path,z0\na.png,1\nb.png,2\n")
    assert shown.missing("z") == ""
    assert shown.missing("u") == (
        f"{tmp_path}/f.csv has no u: run 'partedvae extract' again with --include class,u,z,negative_elbo"
    )
