import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from partedvae.results import ImageArray
from tests.bundles import GREY
from tests.processes import ServerProcess, wait_until
from tests.serving.extraction import extract, idx
from tests.serving.hostile_files import gif_of_comments, jpeg_of_scans, jpeg_with_wrong_exif, tiff_of_strips

pytestmark = pytest.mark.slow


def test_nothing_readable_is_an_error(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """When every image fails, the command fails, and an earlier file stays."""
    for path in folder.rglob("*.png"):
        path.unlink()
    output = tmp_path / "features.parquet"
    output.write_text("from before")
    result = extract(folder, output, "--model", tiny_models / "tiny", "--overwrite")

    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: none of the 2 images could be read, {output} was not written; the first: 05-bad.PNG: not an image"
    )
    assert output.read_text() == "from before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.parquet", "images"]


def test_files_that_would_keep_a_decoder_busy(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """Are rows with the reason; nothing but the summary is written to stderr."""
    (folder / "scans.jpg").write_bytes(jpeg_of_scans(5000, 1000, 1000))
    (folder / "comment.gif").write_bytes(gif_of_comments(200_000))
    (folder / "strips.tif").write_bytes(tiff_of_strips(1000, 1000, 5000))
    (folder / "exif.jpg").write_bytes(jpeg_with_wrong_exif())
    output = tmp_path / "features.parquet"
    result = extract(folder, output, "--model", tiny_models / "tiny")
    assert result.exit_code == 0
    table = pq.read_table(output)
    errors = dict(zip(table["path"].to_pylist(), table["error"].to_pylist(), strict=True))
    assert errors["exif.jpg"] is None
    assert errors["scans.jpg"] == "JPEG file with more than 100 scans: save it again with another program"
    assert errors["comment.gif"] == (
        "GIF file with more than 100,000 blocks before its first frame: save it again with another program"
    )
    assert errors["strips.tif"] == (
        "TIFF file with 5,000 strips or tiles for 1000x1000 pixels, which need 2: save it again with another program"
    )
    assert "Warning" not in result.stderr
    assert result.stderr.startswith("5 images could not be read")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "empty",
            None,
            "empty contains no images (.png, .jpg, .jpeg, .jpe, .jfif, .webp, .bmp, .dib, .tif, .tiff, .gif",
        ),
        ("list.txt", b"\n\n", "list.txt contains no images"),
        (
            "floats.npy",
            np.zeros((2, 8, 6), np.float32),
            "floats.npy is float32, images are uint8; scale it to 0..255 and convert: (x * 255)",
        ),
        ("flat.npy", np.zeros((2, 48), np.uint8), "flat.npy has shape [2, 48]; images are [images, height, width]"),
        ("rgba.npy", np.zeros((2, 8, 6, 4), np.uint8), "rgba.npy has shape [2, 8, 6, 4]; images are"),
        ("table.csv", b"a", "table.csv cannot be read as a table: CSV parse error: Empty CSV file"),
        ("table.foo", b"a", "table.foo has an unsupported format: pass a folder of images"),
        ("none.npy", np.zeros((0, 8, 6), np.uint8), "none.npy contains no images"),
        ("bad.npy", b"\x93NUMPY and no more", "bad.npy cannot be read as a NumPy file"),
        ("bad.npz", b"PK\x03\x04 and no more", "bad.npz cannot be read as a NumPy file: File is not a zip file"),
        ("text", b"some text", "text has an unsupported format: pass a folder of images, an IDX file, .npy"),
        ("short", b"\0", "short is shorter than its header says: the file is truncated"),
        ("labels", b"\0\0\x08\x01\0\0\0\x02\x05\x07", "labels is an IDX file of type 0x08 and rank 1; images have"),
        ("cut", idx(np.zeros((5, 8, 6), np.uint8))[:-1], "cut is shorter than its header says: the file is truncated"),
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
    """An .npz with several arrays and none named images is refused."""
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    result = extract(tmp_path / "two.npz", tmp_path / "x.npz", "--model", tiny_models / "tiny")

    assert result.exit_code == 1
    assert (
        "cannot be read as a NumPy file: it contains ['a', 'b']; rename the array of images to 'images'"
        in result.stderr
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "pass either --model MODELS_DIR/NAME (runs in this process) or --server HOST:PORT"),
        (
            ("--model", "m", "--server", "s:1"),
            2,
            "pass either --model MODELS_DIR/NAME (runs in this process) or --server",
        ),
        (("--server", "127.0.0.1:1"), 1, "no server answers at 127.0.0.1:1 (Connection refused); start one with"),
        (
            ("--model", "no/such"),
            1,
            "no/such is not a folder; pass the folder of a model, or export a run with 'partedvae export'",
        ),
        (("--model", "m", "--tls"), 2, "--tls requires --server"),
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


def test_a_file_of_another_kind_is_no_output(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """A suffix that is unknown is that of a folder, which a file cannot be; refused before any work."""
    (tmp_path / "features.tsv").write_text("mine")
    result = extract(folder, tmp_path / "features.tsv", "--model", tiny_models / "tiny")

    assert result.exit_code == 1
    assert "features.tsv is a file; a single file of features ends in .parquet, .arrow, .csv, .npz, " in result.stderr
    assert (tmp_path / "features.tsv").read_text() == "mine"


def test_a_pipe_is_no_output(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """Opening it would wait for ever."""
    os.mkfifo(tmp_path / "features.parquet")
    result = extract(folder, tmp_path / "features.parquet", "--model", tiny_models / "tiny", "--overwrite")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path}/features.parquet is no regular file; choose another --output\n"


def test_a_server_of_several_models_is_asked_by_name(
    two_model_server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    """--model-name chooses; without it the server's answer names the models."""
    output = tmp_path / "features.parquet"
    unnamed = extract(folder, output, "--server", two_model_server.address)
    named = extract(folder, output, "--server", two_model_server.address, "--model-name", "shapes", "--batch-size", 50)

    assert unnamed.exit_code == 1
    assert "there are several models; pass --model-name with one of ['shapes', 'tiny']" in unnamed.stderr
    assert named.exit_code == 0
    assert "shape" in pq.read_schema(output).names


@pytest.mark.parametrize(
    ("signum", "code", "suffix"),
    [
        (signal.SIGINT, 130, ".parquet"),
        pytest.param(signal.SIGTERM, 143, ".npz", marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGINT, 130, ".npz", marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGTERM, 143, ".parquet", marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGHUP, 129, ".parquet", marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGHUP, 129, ".npz", marks=pytest.mark.exhaustive),
    ],
)
def test_an_interrupted_run_leaves_nothing(
    signum: signal.Signals, code: int, suffix: str, tiny_models: Path, images: ImageArray, tmp_path: Path
) -> None:
    """An interrupted extraction leaves no partial file, and keeps an earlier output."""
    for i in range(4):
        Image.fromarray(images[i, ..., 0]).save(tmp_path / f"{i}.png")
    # One is a pipe, which the run opens in the middle of its work.
    os.mkfifo(tmp_path / "waits.png")
    names = ["0.png"] * 100 + ["waits.png"] + ["0.png"] * 5000
    (tmp_path / "list.txt").write_text("\n".join(names))
    output = tmp_path / "out" / f"features{suffix}"
    output.parent.mkdir()
    output.write_text("from before")
    program = [sys.executable, "-m", "partedvae", "extract", str(tmp_path / "list.txt"), "--output", str(output)]
    program += ["--model", str(tiny_models / "tiny"), "--batch-size", "10", "--overwrite", "--rows-per-part", "9999"]
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


def test_an_interrupted_run_keeps_its_parts(tiny_models: Path, images: ImageArray, tmp_path: Path) -> None:
    """SIGTERM in the middle: a line says what is done, and how to go on."""
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "0.png")
    os.mkfifo(tmp_path / "waits.png")
    (tmp_path / "list.txt").write_text("\n".join(["0.png"] * 600 + ["waits.png"] + ["0.png"] * 5000))
    output = tmp_path / "features"
    program = [sys.executable, "-m", "partedvae", "extract", str(tmp_path / "list.txt"), "--output", str(output)]
    program += ["--model", str(tiny_models / "tiny"), "--batch-size", "10", "--rows-per-part", "100"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        with (tmp_path / "waits.png").open("wb"):
            process.send_signal(signal.SIGTERM)
        wait_until(lambda: process.poll() is not None)
        assert process.stderr is not None
        message = process.stderr.read()
    assert process.returncode == 143
    done = sorted(path.name for path in output.iterdir())
    assert 1 <= len(done) < 57
    assert done == [f"part-{k:05}-of-00057.parquet" for k in range(len(done))]
    assert message == f"{len(done)} of 57 parts of {output} kept; run the same command again to go on\n"
