"""Features that `partedvae extract` has written, read again in every format."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.explore.features.file import choose, read_features
from partedvae.serving.explore.features.table import FeatureTable
from partedvae.serving.suggest.features import read_features as read_features_to_rank
from tests.bundles import COLOURED
from tests.serving.extraction import extract

IMAGES = COLOURED.random_images(40)
EVERYTHING = "class,probs,u,z,negative_elbo,error"


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("array") / "images.npy"
    np.save(path, IMAGES)
    return path


def written(source: Path, model: Path, output: str, *options: object) -> FeatureTable:
    result = extract(source, output, "--model", model, *options)
    assert result.exit_code == 0, result.output
    return read_features(output)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("features.parquet", ()),
        ("features.parquet", ("--vectors",)),
        ("features.arrow", ()),
        ("features.arrow", ("--vectors",)),
        ("features.csv", ()),
        ("features.npz", ()),
        ("parts/", ("--rows-per-part", 16)),
        ("parts/", ("--rows-per-part", 16, "--format", "arrow", "--vectors")),
    ],
)
def test_every_format_has_the_same_features(
    name: str, options: tuple[object, ...], array: Path, two_models: Path, tmp_path: Path
) -> None:
    table = written(array, two_models / "shapes", f"{tmp_path}/{name}", "--include", EVERYTHING, *options)

    expected = COLOURED.encode(IMAGES)
    u = np.concatenate([expected["shape.u_mean"], expected["colour.u_mean"]], axis=1)
    assert table.u is not None
    assert table.z is not None
    np.testing.assert_allclose(table.u, u, atol=1e-5)
    np.testing.assert_allclose(table.z, expected["z_mean"], atol=1e-5)
    assert [(f.name, f.u) for f in table.factors] == [("shape", slice(0, 2)), ("colour", slice(2, 3))]
    for factor, classes in zip(table.factors, COLOURED.factors, strict=True):
        probs = expected[f"{factor.name}.probs"]
        assert factor.classes is not None
        assert factor.confidence is not None
        named = [factor.classes.values[code] for code in factor.classes.codes]
        assert named == [classes.class_names[k] for k in probs.argmax(axis=1)]
        np.testing.assert_allclose(factor.confidence, probs.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(table.scores["negative_elbo"], COLOURED.score(IMAGES)["negative_elbo"], rtol=1e-5)
    assert (table.rows.tolist(), table.key, table.key_of(7)) == (list(range(40)), "index", "7")
    assert table.notes == []


def test_class_names_that_are_numbers_stay_names(tmp_path: Path) -> None:
    """In a CSV file, too, which has no types: "10" follows "2"."""
    path = tmp_path / "features.csv"
    path.write_text("path,digit,digit_prob,digit_u0,digit_u1\n01,10,0.5,1,2\n02,2,1,3,4\n")
    table = read_features(str(path))

    (factor,) = table.factors
    assert factor.classes is not None
    assert factor.classes.values == ("2", "10")
    assert factor.classes.codes.tolist() == [1, 0]
    assert table.key_of(0) == "01"
    assert table.z is None
    assert table.footer("model") == ""


def test_classes_of_probabilities_alone(array: Path, two_models: Path, tmp_path: Path) -> None:
    table = written(array, two_models / "shapes", f"{tmp_path}/f.parquet", "--include", "probs,u")

    probs = COLOURED.encode(IMAGES)["shape.probs"]
    shape = table.factor("shape")
    assert shape.classes is not None
    assert shape.classes.values == ("square", "ellipse", "heart")
    assert shape.classes.codes.tolist() == probs.argmax(axis=1).tolist()


def test_rows_without_features_are_left_out_and_counted(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """The rows of the others keep their numbers; columns of the input are values and numbers."""
    listed = tmp_path / "list.csv"
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.suffix != ".txt")
    lines = [f"{name},{'left' if i % 2 else 'right'},{i / 8},{name}" for i, name in enumerate(names)]
    listed.write_text("\n".join(["path,side,size,note", *lines]))
    options = ("--root", folder, "--columns", "side,size,note", "--include", "class,u,error")
    table = written(listed, tiny_models / "tiny", f"{tmp_path}/f.parquet", *options)

    bad = [i for i, name in enumerate(names) if name in ("05-bad.PNG", "deep/animation.jpg")]
    good = [i for i in range(len(names)) if i not in bad]
    assert table.rows.tolist() == good
    assert table.key_of(0) == names[good[0]]
    assert table.notes == ["2 rows have no features and cannot be shown"]
    assert table.categories["side"].values == ("left", "right")
    assert table.scores["size"].tolist() == [i / 8 for i in good]
    assert table.categories["note"].codes.tolist() == list(range(12))


def test_an_extraction_that_is_not_complete(array: Path, two_models: Path, tmp_path: Path) -> None:
    """Rows of the parts that are there, by their place among all."""
    written(array, two_models / "shapes", f"{tmp_path}/parts/", "--rows-per-part", 16)
    (tmp_path / "parts" / "part-00001-of-00003.parquet").unlink()
    table = read_features(f"{tmp_path}/parts")

    assert table.rows.tolist() == [*range(16), *range(32, 40)]
    assert table.notes == ["1 of 3 parts are missing: the extraction is not complete"]


def test_a_folder_may_have_more_parts_than_files_can_be_open(array: Path, two_models: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    result = extract(array, f"{tmp_path}/parts/", "--model", two_models / "shapes", "--rows-per-part", 1)
    assert result.exit_code == 0, result.output
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 20, before[1]))
        try:
            table = read_features(f"{tmp_path}/parts")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert table.rows.tolist() == list(range(40))


def test_of_too_many_rows_some_are_chosen(array: Path, two_models: Path, tmp_path: Path) -> None:
    written(array, two_models / "shapes", f"{tmp_path}/parts/", "--rows-per-part", 16)
    table = read_features(f"{tmp_path}/parts", most=10)

    assert (table.rows // 4).tolist() == list(range(10))
    u = COLOURED.encode(IMAGES)["shape.u_mean"][table.rows]
    assert table.u is not None
    np.testing.assert_allclose(table.u[:, :2], u, atol=1e-5)
    assert table.notes == ["10 of 40 rows are shown, chosen evenly"]


@pytest.mark.parametrize(("total", "most"), [(10, 9), (1000, 7), (10**9, 1000)])
def test_chosen_rows_are_different_and_the_same_each_time(total: int, most: int) -> None:
    chosen = choose(total, most)
    assert len(np.unique(chosen)) == most
    assert chosen.min() >= 0
    assert chosen.max() < total
    assert chosen.tolist() == choose(total, most).tolist()


def test_files_that_cannot_be_used(array: Path, two_models: Path, tmp_path: Path) -> None:
    def error(path: Path) -> str:
        with pytest.raises(InvalidInputError) as caught:
            read_features(str(path))
        return str(caught.value)

    assert error(tmp_path / "no.parquet") == f"{tmp_path}/no.parquet does not exist; write it with 'partedvae extract'"
    assert "is no folder of features, which 'partedvae extract' writes" in error(tmp_path / "no")
    for name in ("bad.parquet", "bad.arrow", "bad.npz", "bad.csv"):
        (tmp_path / name).write_bytes(b"nonsense\xff")
        assert f"{tmp_path}/{name} " in error(tmp_path / name)
    classes = tmp_path / "classes.parquet"
    assert extract(array, classes, "--model", two_models / "shapes", "--include", "class").exit_code == 0
    assert "has columns of neither u nor z; run 'partedvae extract' again with --include class,u,z" in error(classes)
    for rows in (16, 32):
        parts = tmp_path / f"of-{rows}"
        written(array, two_models / "shapes", f"{parts}/", "--rows-per-part", rows)
    shutil.copy(tmp_path / "of-32" / "part-00000-of-00002.parquet", tmp_path / "of-16")
    assert "has parts of several extractions" in error(tmp_path / "of-16")


def test_a_file_whose_images_could_all_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "features.csv"
    path.write_text("path,digit,digit_prob,digit_u0,error\na.png,,,,gone\n")
    with pytest.raises(InvalidInputError, match="has no row with features: none of its images could be read"):
        read_features(str(path))


def test_images_of_a_folder_have_paths(tmp_path: Path, tiny_models: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("L", (6, 8)).save(tmp_path / "images" / "a.png")
    table = written(tmp_path / "images", tiny_models / "tiny", f"{tmp_path}/f.npz", "--include", "z,u")
    assert (table.key, table.key_of(0), table.footer("input")) == ("path", "a.png", f"{tmp_path}/images")


def test_features_of_a_model_without_factors_are_z(tmp_path: Path) -> None:
    """Its u has no dimensions, as one column or as none; the map and the ranking of images read both."""
    footer = {"partedvae.factors": "[]", "partedvae.counts": '{"images": 2}'}
    names = pa.array(["a.png", "b.png"])
    u = pa.array([[], []], pa.list_(pa.float32(), 0))
    z = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4], pa.float32()), 2)
    for columns in ({"path": names, "u": u, "z": z}, {"path": names, "z": z}):
        path = tmp_path / f"{len(columns)}.arrow"
        table = pa.table(columns).replace_schema_metadata(footer)
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
        shown, ranked = read_features(str(path)), read_features_to_rank(path)
        assert shown.z is not None
        assert shown.z.tolist() == ranked.latents.tolist() == [[1, 2], [3, 4]]
        assert (shown.u, shown.factors, ranked.classes) == (None, [], {})
