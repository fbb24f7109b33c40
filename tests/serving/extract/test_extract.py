import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from partedvae.results import FeatureChunk, Features, ImageArray, ImageProblem
from partedvae.serving.bundle_files import sha256_of
from partedvae.serving.extract.extractors import joined_rows
from partedvae.serving.extract.sources.source import Prepared
from tests.bundles import COLOURED, GREY
from tests.processes import ServerProcess
from tests.serving.extraction import COUNT, extract, idx


def assert_features(table: pa.Table, images: ImageArray) -> None:
    """Compare a Parquet file with what the tiny model computes."""
    expected = GREY.encode(images)
    probs = expected["digit.probs"]
    assert table["digit"].to_pylist() == [str(k) for k in probs.argmax(axis=1)]
    np.testing.assert_allclose(table["digit_prob"].to_numpy(), probs.max(axis=1), atol=1e-5)
    for j in range(3):
        np.testing.assert_allclose(table[f"digit_u{j}"].to_numpy(), expected["digit.u_mean"][:, j], atol=1e-4)
    assert table["error"].null_count == len(images)


def test_a_folder_becomes_one_row_per_image(
    folder: Path, tiny_models: Path, images: ImageArray, tmp_path: Path
) -> None:
    """Rows are in the order of the paths; unreadable images are rows with the reason."""
    output = tmp_path / "new" / "features.parquet"
    result = extract(folder, output, "--model", tiny_models / "tiny")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"14 images -> {output} (")
    assert result.stderr == (
        '2 images could not be read; the column "error" has the reasons:\n'
        "  05-bad.PNG: not an image (it starts with b'nonsense'): send a PNG, JPEG, WebP, BMP, TIFF or GIF file\n"
        "  deep/animation.jpg: PDF is not supported: send a PNG, JPEG, WebP, BMP, TIFF or GIF file\n"
        f"left out: 1 ending in .txt, which is not read ({folder / 'notes.txt'})\n"
    )
    table = pq.read_table(output)
    assert table.column_names == ["path", "digit", "digit_prob", "digit_u0", "digit_u1", "digit_u2", "error"]
    paths = table["path"].to_pylist()
    assert paths == sorted(paths)
    assert len(paths) == 14
    readable = table.filter(pa.compute.is_null(table["error"]))
    order = [int(Path(path).stem) for path in readable["path"].to_pylist()]
    assert_features(readable, images[order])
    bad = table.filter(pa.compute.is_valid(table["error"])).to_pylist()
    assert [row["path"] for row in bad] == ["05-bad.PNG", "deep/animation.jpg"]
    assert all(row[name] is None for row in bad for name in table.column_names if name not in ("path", "error"))
    assert [path.name for path in output.parent.iterdir()] == ["features.parquet"]


@pytest.mark.parametrize("kind", ["idx", "idx.gz", "idx4", "npy", "npz", "npz-other", "npy-grey", "npy-fortran"])
def test_arrays_become_one_row_per_image(kind: str, tiny_models: Path, images: ImageArray, tmp_path: Path) -> None:
    """IDX and NumPy files give the same rows, with the index of each."""
    source = tmp_path / {"idx": "t10k-images-idx3-ubyte", "idx4": "images-idx4-ubyte", "idx.gz": "images.gz"}.get(
        kind, f"images.{kind[:3]}"
    )
    match kind:
        case "idx":
            source.write_bytes(idx(images[..., 0]))
        case "idx4":
            source.write_bytes(idx(images))
        case "idx.gz":
            source.write_bytes(gzip.compress(idx(images[..., 0])))
        case "npy":
            np.save(source, images)
        case "npy-grey":
            np.save(source, images[..., 0])
        case "npy-fortran":
            np.save(source, np.asfortranarray(images))
        case "npz":
            np.savez(source, labels=np.arange(COUNT), images=images)
        case "npz-other":
            np.savez_compressed(source, pixels=images)
    output = tmp_path / "features.parquet"
    result = extract(source, output, "--model", tiny_models / "tiny")

    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    table = pq.read_table(output)
    assert table["index"].to_pylist() == list(range(COUNT))
    assert_features(table, images)


def test_a_list_names_files_relative_to_itself(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """Each line is a row, in the list's order; a file that is missing is a row with the reason."""
    (folder / "list.txt").write_text(f"deep/01.png\n\nmissing.png\n{folder / '00.png'}\n")
    output = tmp_path / "features.parquet"
    result = extract(folder / "list.txt", output, "--model", tiny_models / "tiny")

    assert result.exit_code == 0
    table = pq.read_table(output)
    assert table["path"].to_pylist() == ["deep/01.png", "missing.png", str(folder / "00.png")]
    assert table["error"].to_pylist() == [None, "No such file or directory", None]


@pytest.mark.parametrize("source", ["folder", "array"])
@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_a_server_gives_the_same_rows(
    source: str, suffix: str, server: ServerProcess, tiny_models: Path, folder: Path, images: ImageArray, tmp_path: Path
) -> None:
    """In process and through a server, all columns are equal, the record of the model included."""
    if source == "array":
        folder = tmp_path / "images.npy"
        np.save(folder, images)
    ours, theirs = tmp_path / f"ours{suffix}", tmp_path / f"theirs{suffix}"
    everything = ("--include-z", "--include-probs", "--batch-size", 64)
    assert extract(folder, ours, "--model", tiny_models / "tiny", *everything).exit_code == 0
    assert extract(folder, theirs, "--server", server.address, *everything).exit_code == 0

    if suffix == ".parquet":
        a, b = pq.read_table(ours), pq.read_table(theirs)
        assert a.schema.equals(b.schema, check_metadata=True)
        columns: dict[str, tuple[Any, Any]] = {
            name: (a[name].to_numpy(), b[name].to_numpy()) for name in a.column_names
        }
    else:
        with np.load(ours) as x, np.load(theirs) as y:
            assert x.files == y.files
            columns = {name: (x[name], y[name]) for name in x.files}
    for name, (x, y) in columns.items():
        if x.dtype == np.float32:
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(x, y, err_msg=name)


def test_z_and_probabilities_on_request(two_models: Path, tmp_path: Path) -> None:
    """Columns are grouped by factor, z follows; class names are in the columns' names."""
    images = COLOURED.random_images(9)
    np.save(tmp_path / "images.npy", images)
    output = tmp_path / "features.parquet"
    options = ("--include-z", "--include-probs", "--model", two_models / "shapes")
    assert extract(tmp_path / "images.npy", output, *options).exit_code == 0

    table = pq.read_table(output)
    assert table.column_names == [
        *("index", "shape", "shape_prob", "shape_u0", "shape_u1", "shape_p_square", "shape_p_ellipse", "shape_p_heart"),
        *("colour", "colour_prob", "colour_u0", "colour_p_red", "colour_p_blue"),
        *("z0", "z1", "z2", "z3", "z4", "unfamiliar", "error"),
    ]
    expected = COLOURED.encode(images)
    np.testing.assert_allclose(table["shape_p_heart"].to_numpy(), expected["shape.probs"][:, 2], atol=1e-5)
    np.testing.assert_allclose(table["z4"].to_numpy(), expected["z_mean"][:, 4], atol=1e-4)


def test_npz_holds_arrays(folder: Path, tiny_models: Path, images: ImageArray, tmp_path: Path) -> None:
    """The .npz has a matrix for u, for z and for the probabilities; unreadable images are NaN and ""."""
    output = tmp_path / "features.npz"
    options = ("--include-z", "--include-probs", "--model", tiny_models / "tiny")
    assert extract(folder, output, *options).exit_code == 0

    with np.load(output) as arrays:
        loaded = dict(arrays)
    good = loaded["error"] == ""
    order = [int(Path(path).stem) for path in loaded["path"][good]]
    expected = GREY.encode(images[order])
    assert good.sum() == 12
    np.testing.assert_allclose(loaded["digit_u"][good], expected["digit.u_mean"], atol=1e-4)
    np.testing.assert_allclose(loaded["digit_p"][good], expected["digit.probs"], atol=1e-5)
    np.testing.assert_allclose(loaded["z"][good], expected["z_mean"], atol=1e-4)
    classes = loaded["digit_class_names"][expected["digit.probs"].argmax(axis=1)]
    np.testing.assert_array_equal(loaded["digit"][good], classes)
    assert np.isnan(loaded["digit_u"][~good]).all()
    assert loaded["digit"][~good].tolist() == ["", ""]
    assert json.loads(str(loaded["metadata"]))["partedvae.model"] == "tiny"


def test_the_file_says_which_model_made_it(tiny_models: Path, images: ImageArray, tmp_path: Path) -> None:
    """Name, version and the checksum of the encoder are in the Parquet file's metadata."""
    np.save(tmp_path / "images.npy", images[:3])
    output = tmp_path / "features.parquet"
    extract(tmp_path / "images.npy", output, "--model", tiny_models / "tiny" / "1")

    metadata = pq.read_schema(output).metadata
    assert metadata[b"partedvae.model"] == b"tiny"
    assert metadata[b"partedvae.version"] == b"1"
    assert metadata[b"partedvae.encoder_sha256"].decode() == sha256_of(tiny_models / "tiny" / "1" / "encoder.onnx")
    assert re.fullmatch(rb"[0-9a-f]{64}", metadata[b"partedvae.manifest_sha256"])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_row_groups_are_large(tiny_models: Path, tmp_path: Path) -> None:
    """Batches are gathered into row groups, so that the file reads fast; all rows arrive."""
    np.save(tmp_path / "images.npy", np.zeros((70_000, 1, 1), dtype=np.uint8))
    output = tmp_path / "features.parquet"
    extract(tmp_path / "images.npy", output, "--model", tiny_models / "tiny", "--batch-size", 1000)

    file = pq.ParquetFile(output)
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [65_536, 4_464]
    file.close()


def test_images_of_other_sizes_are_fitted(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """A colour photograph in a folder is converted as the server would do with it."""
    Image.new("RGB", (300, 200), (10, 200, 30)).save(folder / "photo.jpg")
    output = tmp_path / "features.parquet"
    result = extract(folder / "photo.jpg", output, "--model", tiny_models / "tiny")

    assert result.exit_code == 0
    assert pq.read_table(output)["error"].to_pylist() == [None]


def test_what_a_server_cannot_use_is_a_row_with_its_reason() -> None:
    """A batch returned in two parts: problems of the server belong to images that were readable here."""
    prepared = Prepared(
        keys=["a", "b", "c", "d", "e"], errors=[None, "no file", None, None, None], images=GREY.random_images(4)
    )
    features = [Features(factors=(), z=np.full((rows, 2), rows, np.float32)) for rows in (2, 1)]
    parts = [
        FeatureChunk(features=features[0], positions=[100, 101]),
        FeatureChunk(
            features=features[1], positions=[103], problems=(ImageProblem(index=102, name="", reason="too dark"),)
        ),
    ]
    rows = joined_rows(prepared, parts, first=100)

    assert rows.keys == ["a", "b", "c", "d", "e"]
    assert rows.errors == [None, "no file", None, "too dark", None]
    assert rows.features is not None
    assert rows.features.z is not None
    assert rows.features.z[:, 0].tolist() == [2, 2, 1]
