import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from partedvae.cli import main
from partedvae.results import ImageArray
from serving.bundle import sha256_of
from tests.bundles import COLOURED, GREY
from tests.processes import ServerProcess, wait_until

COUNT = 700
"""More images than two batches."""


def extract(source: Path, output: Path, *options: object) -> Result:
    return CliRunner().invoke(main, ["extract", str(source), "--output", str(output), *map(str, options)])


def idx(images: ImageArray) -> bytes:
    rank = images.ndim
    return bytes([0, 0, 8, rank]) + np.array(images.shape, dtype=">u4").tobytes() + images.tobytes()


@pytest.fixture
def images() -> ImageArray:
    """Return images of the tiny model's size."""
    return GREY.random_images(COUNT)


@pytest.fixture
def folder(tmp_path: Path, images: ImageArray) -> Path:
    """Write twelve of the images into a folder with subfolders, and two files that are no images."""
    folder = tmp_path / "images"
    (folder / "deep" / "er").mkdir(parents=True)
    for i in range(12):
        place = (folder, folder / "deep", folder / "deep" / "er")[i % 3]
        Image.fromarray(images[i, ..., 0]).save(place / f"{i:02}.png")
    (folder / "05-bad.PNG").write_bytes(b"nonsense")
    (folder / "deep" / "animation.jpg").write_bytes(b"GIF89a")
    (folder / "notes.txt").write_text("not an image, and not to be read")
    return folder


def assert_features(table: pa.Table, images: ImageArray) -> None:
    """Compare a Parquet file with what the tiny model computes."""
    expected = GREY.encode(images)
    probs = expected["digit.probs"]
    assert table["digit"].to_pylist() == [str(k) for k in probs.argmax(axis=1)]
    np.testing.assert_allclose(table["digit_prob"].to_numpy(), probs.max(axis=1), atol=1e-5)
    for j in range(3):
        np.testing.assert_allclose(table[f"digit_u{j}"].to_numpy(), expected["digit.u_mean"][:, j], atol=1e-4)
    assert table["error"].null_count == len(images)


def test_a_folder_becomes_a_row_an_image(folder: Path, tiny_models: Path, images: ImageArray, tmp_path: Path) -> None:
    """Rows come in the order of the paths; unreadable images are rows with the reason, and do not end the run."""
    output = tmp_path / "new" / "features.parquet"
    result = extract(folder, output, "--model", tiny_models / "tiny")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"14 images -> {output} (")
    assert result.stderr == (
        '2 of them could not be read; the column "error" says why:\n'
        "  05-bad.PNG: not an image (it starts with b'nonsense'): send a PNG, JPEG or WebP file\n"
        "  deep/animation.jpg: GIF is not supported: send a PNG, JPEG or WebP file\n"
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
def test_arrays_become_a_row_an_image(kind: str, tiny_models: Path, images: ImageArray, tmp_path: Path) -> None:
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
        *("z0", "z1", "z2", "z3", "z4", "error"),
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


def test_nothing_readable_is_an_error(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """When every image fails, the command fails, and an earlier file stays."""
    for path in folder.rglob("*.png"):
        path.unlink()
    output = tmp_path / "features.parquet"
    output.write_text("from before")
    result = extract(folder, output, "--model", tiny_models / "tiny")

    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: none of the 2 images could be read, {output} was not written; the first: 05-bad.PNG: not an image"
    )
    assert output.read_text() == "from before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.parquet", "images"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", None, "empty holds no images (.png, .jpg, .jpeg, .webp)"),
        ("list.txt", b"\n\n", "list.txt holds no images"),
        ("floats.npy", np.zeros((2, 8, 6), np.float32), "floats.npy holds float32, images are uint8; convert it"),
        ("flat.npy", np.zeros((2, 48), np.uint8), "flat.npy has shape [2, 48]; images are [images, height, width]"),
        ("rgba.npy", np.zeros((2, 8, 6, 4), np.uint8), "rgba.npy has shape [2, 8, 6, 4]; images are"),
        ("none.npy", np.zeros((0, 8, 6), np.uint8), "none.npy holds no images"),
        ("bad.npy", b"\x93NUMPY and no more", "bad.npy cannot be read as a NumPy file"),
        ("bad.npz", b"PK\x03\x04 and no more", "bad.npz cannot be read as a NumPy file: File is not a zip file"),
        ("text", b"some text", "text is nothing that can be read: give a folder of images, an IDX file, .npy"),
        ("short", b"\0", "short is shorter than its header says: the file is cut off"),
        ("labels", b"\0\0\x08\x01\0\0\0\x02\x05\x07", "labels is an IDX file of type 0x08 and rank 1; images have"),
        ("cut", idx(np.zeros((5, 8, 6), np.uint8))[:-1], "cut is shorter than its header says: the file is cut off"),
        ("cut.gz", gzip.compress(idx(GREY.random_images(99)[..., 0]))[:-99], "cut.gz cannot be unpacked"),
        ("text.gz", b"some text", "text.gz cannot be unpacked: Not a gzipped file"),
    ],
)
def test_bad_input_is_answered(
    name: str, content: Any, message: str, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be read ends with exit code 1 and the reason, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    source = Path(name)
    if content is None:
        source.mkdir()
    elif isinstance(content, bytes):
        source.write_bytes(content)
    else:
        np.save(source, content)
    result = extract(source, Path("features.parquet"), "--model", tiny_models / "tiny")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_npz_of_several_arrays_must_name_the_images(tiny_models: Path, tmp_path: Path) -> None:
    """Which array holds the images is not guessed."""
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    result = extract(tmp_path / "two.npz", tmp_path / "x.npz", "--model", tiny_models / "tiny")

    assert result.exit_code == 1
    assert "cannot be read as a NumPy file: it holds ['a', 'b'], name the array of the images 'images'" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "give one of --model MODELS_DIR/NAME (compute here) and --server HOST:PORT"),
        (("--model", "m", "--server", "s:1"), 2, "give one of --model MODELS_DIR/NAME (compute here) and --server"),
        (("--server", "127.0.0.1:1"), 1, "no server answers at 127.0.0.1:1 (Connection refused); start one with"),
        (("--model", "no/such"), 1, "no/such holds no version of a model; export a run with 'partedvae export'"),
        (("--model", "m", "--batch-size", "0"), 2, "0 is not in the range 1<=x<=4096"),
    ],
)
def test_a_model_is_needed(options: tuple[str, ...], code: int, message: str, folder: Path, tmp_path: Path) -> None:
    """--model and --server exclude each other, and must lead to a model."""
    output = tmp_path / "features.parquet"
    result = extract(folder, output, *options)

    assert result.exit_code == code
    assert message in result.stderr
    assert not output.exists()


def test_the_output_must_be_of_a_known_kind(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """Another suffix is refused before any work."""
    result = extract(folder, tmp_path / "features.csv", "--model", tiny_models / "tiny")

    assert result.exit_code == 1
    assert "features.csv' has to end in .parquet or .npz" in result.stderr


def test_a_server_of_several_models_is_asked_by_name(
    two_model_server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    """--model-name chooses; without it the server's answer names the models."""
    output = tmp_path / "features.parquet"
    unnamed = extract(folder, output, "--server", two_model_server.address)
    named = extract(folder, output, "--server", two_model_server.address, "--model-name", "shapes", "--batch-size", 50)

    assert unnamed.exit_code == 1
    assert "there are several models, name one of ['shapes', 'tiny']" in unnamed.stderr
    assert named.exit_code == 0
    assert "shape" in pq.read_schema(output).names


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_an_interrupted_run_leaves_nothing(
    signum: signal.Signals, code: int, suffix: str, tiny_models: Path, images: ImageArray, tmp_path: Path
) -> None:
    """A run that is stopped in the middle leaves no file, whole or half, and what was there before stays."""
    for i in range(4):
        Image.fromarray(images[i, ..., 0]).save(tmp_path / f"{i}.png")
    # The last file is a pipe that nobody writes into: the run waits in the middle of its work.
    os.mkfifo(tmp_path / "waits.png")
    names = ["0.png"] * 1000 + ["waits.png"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    output = tmp_path / "out" / f"features{suffix}"
    output.parent.mkdir()
    output.write_text("from before")
    program = [sys.executable, "-m", "partedvae", "extract", str(tmp_path / "list.txt"), "--output", str(output)]
    program += ["--model", str(tiny_models / "tiny"), "--batch-size", "10"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        # Opening waits until the run has opened it to read: it is in the middle then.
        with (tmp_path / "waits.png").open("wb"):
            process.send_signal(signum)
        wait_until(lambda: process.poll() is not None)
        assert process.stderr is not None
        assert process.stderr.read().strip() == ""
    assert process.returncode == code
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert output.read_text() == "from before"
