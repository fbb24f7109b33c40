"""Columns of the output, in every format."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.layout import DEFAULT_INCLUDE, INCLUDE, Include, Layout, Rows, parse_include
from partedvae.serving.extract.options.output import COLUMNS
from partedvae.serving.extract.output.feature_files import names_in
from partedvae.serving.extract.output.tables import table_of
from partedvae.v1.manifest_pb2 import Factor, Manifest
from tests.bundles import COLOURED
from tests.serving.extraction import extract

EVERYTHING = ("--include", COLUMNS)
IMAGES = COLOURED.random_images(9)


@pytest.fixture
def array(tmp_path: Path) -> Path:
    np.save(tmp_path / "images.npy", IMAGES)
    return tmp_path / "images.npy"


@pytest.fixture
def shapes(two_models: Path) -> tuple[str, Path]:
    return "--model", two_models / "shapes"


def test_the_help_names_all_columns() -> None:
    assert set(COLUMNS.split(",")) == set(INCLUDE)
    assert parse_include(["error", "u", "class", "unfamiliar", "u"]) == DEFAULT_INCLUDE


def test_columns_are_included_by_name(array: Path, shapes: tuple[str, Path], tmp_path: Path) -> None:
    """In the order of the columns, separated by commas or repeated."""
    output = tmp_path / "features.parquet"
    options = ("--include", "negative_elbo,z", "--include", "class,reconstruction_error")
    assert extract(array, output, *shapes, *options).exit_code == 0
    table = pq.read_table(output)
    assert table.column_names == [
        *("index", "shape", "shape_prob", "colour", "colour_prob", "z0", "z1", "z2", "z3", "z4"),
        *("negative_elbo", "reconstruction_error"),
    ]
    scores = COLOURED.score(IMAGES)
    for name in ("negative_elbo", "reconstruction_error"):
        np.testing.assert_allclose(table[name], scores[name], rtol=1e-5)
    np.testing.assert_allclose(table["z3"], COLOURED.encode(IMAGES)["z_mean"][:, 3], atol=1e-5)


def test_the_former_options_add_columns(array: Path, shapes: tuple[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "features.parquet"
    assert extract(array, output, *shapes, "--include-z", "--no-familiarity").exit_code == 0
    names = pq.read_schema(output).names
    assert names[-6:] == ["z0", "z1", "z2", "z3", "z4", "error"]
    assert "unfamiliar" not in names
    assert "shape_u1" in names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--include", "clas"), "--include has 'clas', which is no column: choose from class,probs,u,z,negative_elbo,"),
        (("--include", "error"), "--include has no feature; choose from class,probs,u,z,negative_elbo"),
        (
            ("--include", "unfamiliar", "--no-familiarity"),
            "--include has unfamiliar, which --no-familiarity leaves out",
        ),
    ],
)
def test_other_columns_are_refused(
    options: tuple[str, ...], message: str, array: Path, shapes: tuple[str, Path], tmp_path: Path
) -> None:
    result = extract(array, tmp_path / "features.parquet", *shapes, *options)
    assert result.exit_code != 0
    assert message in result.stderr


def test_a_model_without_scores_has_no_columns_of_them(array: Path, tmp_path: Path) -> None:
    model = type(COLOURED)(factors=COLOURED.factors, channels=3, height=8, width=8, has_scorer=False)
    np.save(array, model.random_images(3))
    model.write(tmp_path / "models" / "plain")
    for name, reason in (("unfamiliar", "does not know the range"), ("negative_elbo", "has no scorer.onnx")):
        result = extract(array, tmp_path / "x.npz", "--model", tmp_path / "models" / "plain", "--include", f"u,{name}")
        assert result.exit_code == 1
        assert f"Error: version 1 of model 'plain' {reason}" in result.stderr
        assert "leave it out of --include" in result.stderr
    assert extract(array, tmp_path / "x.npz", "--model", tmp_path / "models" / "plain").exit_code == 0


@pytest.mark.parametrize("name", ["features.parquet", "features.arrow", "parts/", "arrows/"])
def test_vectors_are_lists_of_a_fixed_size(name: str, array: Path, shapes: tuple[str, Path], tmp_path: Path) -> None:
    """U has all factors side by side, in the order that the footer names."""
    output = f"{tmp_path}/{name}"
    options = ("--format", "arrow") if name == "arrows/" else ()
    assert extract(array, output, *shapes, *EVERYTHING, "--vectors", *options).exit_code == 0
    file = next(Path(output).iterdir()) if name.endswith("/") else Path(output)
    table = pq.read_table(file) if file.suffix == ".parquet" else pa.ipc.open_file(file).read_all()
    assert table.column_names == [
        *("index", "shape", "shape_prob", "shape_p", "colour", "colour_prob", "colour_p", "u", "z"),
        *("negative_elbo", "reconstruction_error", "unfamiliar", "error"),
    ]
    expected = COLOURED.encode(IMAGES)
    vectors = {
        "u": np.concatenate([expected["shape.u_mean"], expected["colour.u_mean"]], axis=1),
        "z": expected["z_mean"],
        "shape_p": expected["shape.probs"],
        "colour_p": expected["colour.probs"],
    }
    for column, matrix in vectors.items():
        assert table[column].type == pa.list_(pa.float32(), matrix.shape[1])
        np.testing.assert_allclose(table[column].to_pylist(), matrix, atol=1e-5)
    assert json.loads(table.schema.metadata[b"partedvae.factors"]) == [
        {"name": "shape", "u_dim": 2, "classes": ["square", "ellipse", "heart"]},
        {"name": "colour", "u_dim": 1, "classes": ["red", "blue"]},
    ]


def test_csv_has_the_numbers_of_vectors(array: Path, shapes: tuple[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "features.csv"
    assert extract(array, output, *shapes, "--include", "u,class", "--vectors").exit_code == 0
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "shape", "shape_prob", "colour", "colour_prob", "u0", "u1", "u2"]
    assert [int(row["index"]) for row in rows] == list(range(9))
    expected = COLOURED.encode(IMAGES)
    np.testing.assert_allclose([float(row["u2"]) for row in rows], expected["colour.u_mean"][:, 0], atol=1e-5)
    result = extract(array, output, *shapes)
    assert result.exit_code == 1
    assert f"{output} exists; choose another --output, or pass --overwrite to replace it" in result.stderr


def test_rows_without_features_are_null() -> None:
    """In every column but the key, the error and those of the input, also where no image of a batch is readable."""
    manifest = Manifest(factors=[Factor(name="kind", class_names=["a", "b"], u_dim=2)], z_dim=1)
    passed = pa.schema([pa.field("label", pa.string())])
    for vectors in (False, True):
        layout = Layout(key="path", manifest=manifest, include=INCLUDE, vectors=vectors, columns=passed)
        rows = Rows(
            keys=["x", "\u00e9"], errors=["gone", "\udcff"], features=None, columns=pa.table({"label": ["1", "2"]})
        )
        table = table_of(rows, layout, layout.schema())
        table.validate(full=True)
        for row, path, label, error in zip(
            table.to_pylist(), ["x", "\u00e9"], ["1", "2"], ["gone", "\\udcff"], strict=True
        ):
            known = {"path": path, "label": label, "error": error}
            assert row == dict.fromkeys(table.column_names) | known


def test_columns_of_the_same_name_are_refused() -> None:
    manifest = Manifest(factors=[Factor(name="kind", class_names=["a"], u_dim=1)], z_dim=1)
    passed = pa.schema([pa.field("kind_prob", pa.string())])
    with pytest.raises(InvalidInputError, match="the column 'kind_prob' of the input has the name of a column of the"):
        Layout(key="path", manifest=manifest, columns=passed).schema()
    old = Manifest(factors=[Factor(name="u", class_names=["a"], u_dim=1)], z_dim=1)
    with pytest.raises(InvalidInputError, match="two columns would be called 'u', since the model has a factor"):
        Layout(key="path", manifest=old, vectors=True).schema()


@pytest.mark.parametrize(
    ("suffix", "vectors", "passed_on", "include"),
    [
        (".npz", True, "metadata", ("class",)),
        (".npz", True, "kind_u", ("u",)),
        (".npz", True, "kind_class_names", ("probs",)),
        (".csv", True, "z0", ("z",)),
        (".parquet", False, "z0", ("z",)),
    ],
)
def test_columns_of_the_input_are_not_overwritten_by_those_of_a_format(
    suffix: str, vectors: bool, passed_on: str, include: tuple[Include, ...]
) -> None:
    manifest = Manifest(factors=[Factor(name="kind", class_names=["a", "b"], u_dim=2)], z_dim=1)
    columns = pa.schema([pa.field(passed_on, pa.string())])
    layout = Layout(key="path", manifest=manifest, include=include, vectors=vectors, columns=columns)
    with pytest.raises(InvalidInputError, match=f"the column '{passed_on}' of the input has the name of a column of"):
        layout.check_names(names_in(suffix, layout))
    other = dataclasses.replace(layout, columns=pa.schema([pa.field("mine", pa.string())]))
    other.check_names(names_in(suffix, other))


def test_a_column_u_of_the_input_is_passed_on(tmp_path: Path, shapes: tuple[str, Path]) -> None:
    """As it is, where the u of the model is not asked for."""
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("path,u\na.png,of mine\n")
    output = tmp_path / "features.npz"
    arguments = ["--columns", "u", "--include", "class,error", *shapes]
    assert extract(tmp_path / "list.csv", output, *arguments).exit_code == 0
    with np.load(output) as arrays:
        assert arrays["u"].tolist() == ["of mine"]


def test_the_footer_says_what_made_the_file(array: Path, shapes: tuple[str, Path], tmp_path: Path) -> None:
    """Key-value metadata of Parquet, which DuckDB and others read too."""
    output = tmp_path / "features.parquet"
    assert extract(array, output, *shapes).exit_code == 0
    texts = {key.decode(): value.decode() for key, value in pq.read_metadata(output).metadata.items()}
    assert {key: texts[f"partedvae.{key}"] for key in ("model", "version", "precision", "rows", "include")} == {
        "model": "shapes",
        "version": "1",
        "precision": "fp32",
        "rows": "9",
        "include": "class,u,unfamiliar,error",
    }
    assert json.loads(texts["partedvae.counts"])["images"] == 9
    assert all(len(texts[f"partedvae.{name}_sha256"]) == 64 for name in ("input", "manifest", "encoder", "scorer"))
