"""Tests of the benchmark of batch extraction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.extract.__main__ import main
from benchmarks.extract.cases import DECODING, LOCAL, ORT, ORT_FAMILIARITY, cases_of, with_values
from benchmarks.extract.inputs import JPEG_SIZE, Input, make_inputs
from benchmarks.extract.measure import Run, run
from benchmarks.extract.report import as_json, report
from benchmarks.serving.load import BenchmarkError
from partedvae.serving.bundle import Bundle, load_bundle
from tests.bundles import GREY
from tests.serving.extraction import idx


@pytest.fixture
def mnist_folder(tmp_path: Path) -> Path:
    """Write a few images as MNIST's training images."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(images))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Write a model of MNIST's size."""
    digits = replace(GREY, height=28, width=28, familiar_negative_elbo=1e9)
    digits.write(tmp_path / "models" / "mnist")
    return load_bundle(tmp_path / "models" / "mnist" / "1")


def test_inputs_are_the_same_each_time(mnist_folder: Path, tmp_path: Path) -> None:
    first = make_inputs(mnist_folder, tmp_path / "a", 3, 2)
    again = make_inputs(mnist_folder, tmp_path / "b", 3, 2)
    assert [(source.kind, source.images) for source in first] == [("array", 40), ("png", 3), ("jpeg", 2)]
    for one, other in zip(first[1:], again[1:], strict=True):
        files = sorted(path for path in one.path.rglob("*") if path.is_file())
        assert len(files) == one.images
        for path in files:
            assert path.read_bytes() == (other.path / path.relative_to(one.path)).read_bytes()
    with Image.open(next(first[2].path.rglob("*.jpg"))) as image:
        assert (image.size, image.mode) == (JPEG_SIZE, "RGB")


def test_inputs_that_are_there_are_kept(mnist_folder: Path, tmp_path: Path) -> None:
    png = make_inputs(mnist_folder, tmp_path / "a", 3, 1)[1]
    next(png.path.rglob("*.png")).unlink()
    assert sum(path.is_file() for path in make_inputs(mnist_folder, tmp_path / "a", 3, 1)[1].path.rglob("*")) == 2


def test_without_mnist(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="train-images-idx3-ubyte does not exist; 'partedvae data get mnist'"):
        make_inputs(tmp_path, tmp_path, 1, 1)


def test_shares_are_those_of_the_best_runs(bundle: Bundle, tmp_path: Path) -> None:
    source = Input(kind="array", name="some images", path=tmp_path / "idx", images=40)
    cases = [case for case in cases_of(source, bundle, ()) if case.name in (ORT, ORT_FAMILIARITY, LOCAL)]
    rates = {ORT: (900.0, 1000.0), ORT_FAMILIARITY: (300.0,), LOCAL: (800.0, 600.0)}
    runs = {
        (source.name, name): [
            Run(images_per_second=rate, seconds=3.0, cpu_seconds=5.0, megabytes=100.0 + rate) for rate in values
        ]
        for name, values in rates.items()
    }
    (line,) = (line for line in report(cases, runs).splitlines() if f"| {LOCAL} |" in line)
    cells = line.strip("| ").split(" | ")
    assert cells[:4] == ["some images", LOCAL, "800", "700"]
    assert cells[5:] == ["80%", ORT, "", "3.47", "3.0", "5.0", "900"]
    assert [case["bound"] for case in as_json(cases, runs)["cases"]] == ["", "", ORT]


def test_files_are_compared_with_decoding_and_inference_together(bundle: Bundle, tmp_path: Path) -> None:
    """Which share the processors: 1 s per 1,000 images and 1 s per 500 images allow 333 images/s."""
    array = Input(kind="array", name="array", path=tmp_path / "idx", images=40)
    files = Input(kind="png", name="files", path=tmp_path, images=40)
    cases = [case for case in cases_of(array, bundle, ()) if case.name == ORT]
    cases += [case for case in cases_of(files, bundle, ()) if case.name in (DECODING, LOCAL)]
    rates = {("array", ORT): 1000.0, ("files", DECODING): 500.0, ("files", LOCAL): 300.0}
    runs = {
        key: [Run(images_per_second=rate, seconds=3.0, cpu_seconds=5.0, megabytes=100.0)] for key, rate in rates.items()
    }
    (line,) = (line for line in report(cases, runs).splitlines() if f"| {LOCAL} |" in line)
    assert line.strip("| ").split(" | ")[5:8] == ["60%", DECODING, "90%"]


def test_a_program_that_fails(tmp_path: Path) -> None:
    """Its errors are shown."""
    with pytest.raises(BenchmarkError, match=r"(?s)json\.tool .*missing failed: .*No such file or directory"):
        run(["json.tool", str(tmp_path / "missing")])


@pytest.mark.slow
def test_it_measures_all_inputs_and_updates_a_document(mnist_folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    """The bounds and our command run and report a rate for each input; the document has a line for each."""
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- bench-extract:begin -->\nold\n<!-- bench-extract:end -->\nafter\n")
    arguments = ["--output", tmp_path / "new" / "x.json", "--models", tmp_path / "models", "--document", document]
    arguments += ["--data", tmp_path / "data", "--inputs", tmp_path / "in", "--pngs", 5, "--jpegs", 2, "--rounds", 1]
    result = CliRunner().invoke(
        main, [str(argument) for argument in [*arguments, "--only", "--model --no-familiarity"]]
    )
    assert result.exit_code == 0, result.output
    cases = json.loads((tmp_path / "new" / "x.json").read_text())["cases"]
    assert [case["program"] for case in cases] == [
        *(ORT, LOCAL),
        *(DECODING, LOCAL) * 2,
    ]
    assert all(case["runs"][0]["images_per_second"] > 0 for case in cases)
    assert "old" not in document.read_text()
    assert document.read_text().count(f"| {LOCAL} |") == 3


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_loop_over_a_dataloader(mnist_folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    """It computes what the extraction computes."""
    pq = pytest.importorskip("pyarrow.parquet")
    png = make_inputs(mnist_folder, tmp_path / "in", 5, 1)[1]
    (case,) = (case for case in cases_of(png, bundle, ()) if "DataLoader" in case.name)
    assert run(with_values(case, tmp_path / "features", "")).images_per_second > 0
    table = pq.read_table(tmp_path / "features.parquet")
    images = np.stack([np.asarray(Image.open(path))[..., None] for path in table["key"].to_pylist()])
    expected = replace(GREY, height=28, width=28).encode(images)["digit.probs"]
    np.testing.assert_allclose(table["digit.probs3"].to_numpy(), expected[:, 3], atol=1e-5)
