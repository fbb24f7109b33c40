"""What runs in a worker of Ray, and what the command checks of it, without Ray's processes."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import socket
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from partedvae.cli.connection import Connection
from partedvae.common.cpus import available_cpus, limit_cpus
from partedvae.serving.errors import ServingError
from partedvae.serving.extract.extraction import Options, plan_parts
from partedvae.serving.extract.extractors import LocalExtractor
from partedvae.serving.extract.output.output import parse_output
from partedvae.serving.extract.output.parts import PartFiles
from partedvae.serving.extract.ray.worker import PartWorker, WorkerSettings, task
from partedvae.serving.extract.ray.worker_model import BundledModel, ServedModel, WorkerModel
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.source import Source
from partedvae.serving.extract.summary import Counts
from partedvae.serving.repository.loading import load_model
from tests.processes import ServerProcess
from tests.serving.extraction import extract

HERE = f"{socket.gethostname()}:{os.getpid()}"


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Undo what a worker changes of its process: the working folder, and the processors."""
    monkeypatch.chdir(tmp_path)
    yield
    limit_cpus(None)


@pytest.fixture
def model(tiny_models: Path) -> BundledModel:
    return BundledModel.read(tiny_models / "tiny", load_model(tiny_models / "tiny", device="cpu"), "cpu")


def planned(source: Source, output: Path, models: Path) -> PartFiles:
    extractor = LocalExtractor(load_model(models / "tiny", device="cpu"))
    return plan_parts(source, extractor, parse_output(str(output)), Options(rows_per_part=5))


def settings(files: PartFiles, model: WorkerModel, **changed: Any) -> WorkerSettings:
    made = WorkerSettings(
        files=files, model=model, batch_size=4, cpus=1, folder=str(Path.cwd()), code_version=version("partedvae")
    )
    return dataclasses.replace(made, **changed)


def work(worker: PartWorker, source: Source, files: PartFiles, number: int) -> dict[str, Any]:
    """Let a worker write a part, as Ray does; return its result."""
    (result,) = worker(pa.Table.from_pylist([task(number, source.part(*files.plan.range_of(number)))])).to_pylist()
    return dict(result)


def test_a_worker_needs_neither_the_model_s_folder_nor_the_working_folder(
    folder: Path, tiny_models: Path, model: BundledModel, tmp_path: Path
) -> None:
    """Settings are pickled with the bundle, and relative paths are those of the command; a part is written once."""
    local = tmp_path / "local.parquet"
    assert extract(folder, local, "--model", tiny_models / "tiny").exit_code == 0
    source = open_source(folder)
    files = planned(source, Path("features"), tiny_models)
    content = pickle.dumps(settings(files, model, folder=str(tmp_path)))
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    os.chdir(copied)

    worker = PartWorker(pickle.loads(content))
    results = [work(worker, source, files, number) for number in range(3)]
    assert available_cpus() == 1
    assert [(result["error"], result["process"]) for result in results] == [(None, HERE)] * 3
    counts = [Counts.from_json(str(result["counts"])) for result in results]
    assert [one.images for one in counts] == [5, 5, 4]
    assert sum(one.unreadable for one in counts) == 2
    table, expected = pq.read_table(tmp_path / "features"), pq.read_table(local)
    assert table.drop_columns(floats(table)).equals(expected.drop_columns(floats(expected)))
    for name in floats(table):
        np.testing.assert_allclose(table[name].to_numpy(), expected[name].to_numpy(), rtol=0, atol=1e-6)

    part = tmp_path / "features" / files.plan.name(1)
    written = part.stat().st_mtime_ns
    assert work(worker, source, files, 1) == results[1]
    assert part.stat().st_mtime_ns == written


def floats(table: pa.Table) -> list[str]:
    return [field.name for field in table.schema if pa.types.is_floating(field.type)]


def test_a_worker_computes_on_a_server(
    server: ServerProcess, folder: Path, tiny_models: Path, model: BundledModel, tmp_path: Path
) -> None:
    """Each worker connects to the server; the counts are those of the model in its process."""
    source = open_source(folder)
    files = planned(source, tmp_path / "features", tiny_models)
    served = ServedModel(connection=Connection(server=server.address), name="tiny", version=1)
    result = work(PartWorker(settings(files, served)), source, files, 0)
    assert (result["error"], served.needs_gpu) == (None, False)
    there = pq.read_table(tmp_path / "features" / files.plan.name(0))
    shutil.rmtree(tmp_path / "features")

    assert work(PartWorker(settings(files, model)), source, files, 0)["counts"] == result["counts"]
    here = pq.read_table(tmp_path / "features" / files.plan.name(0))
    assert here["path"].equals(there["path"])
    np.testing.assert_allclose(here["digit_u0"].to_numpy(), there["digit_u0"].to_numpy(), rtol=0, atol=1e-6)


def damaged(made: WorkerSettings) -> WorkerSettings:
    assert isinstance(made.model, BundledModel)
    files = {**made.model.files, "encoder.onnx": b"damaged"}
    return dataclasses.replace(made, model=dataclasses.replace(made.model, files=files))


def other_version(made: WorkerSettings) -> WorkerSettings:
    return dataclasses.replace(made, code_version="0.0.1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (damaged, "encoder.onnx is damaged"),
        (other_version, f"has partedvae {version('partedvae')}, and the command is of 0.0.1; install the same version"),
    ],
)
def test_the_error_of_a_worker_is_its_result(
    change: Callable[[WorkerSettings], WorkerSettings],
    reason: str,
    folder: Path,
    tiny_models: Path,
    model: BundledModel,
    tmp_path: Path,
) -> None:
    """One line, in place of the counts, and no part."""
    source = open_source(folder)
    files = planned(source, tmp_path / "features", tiny_models)
    result = work(PartWorker(change(settings(files, model))), source, files, 0)

    assert result["counts"] is None
    assert reason in str(result["error"])
    assert "\n" not in str(result["error"])
    assert not (tmp_path / "features").exists()


def test_workers_must_reach_the_files_of_the_command(
    folder: Path, tiny_models: Path, model: BundledModel, tmp_path: Path
) -> None:
    """A part that is not here, and one of whose images none could be read there but can be here, end the extraction."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from partedvae.serving.extract.ray.engine import Checks

    source = open_source(folder)
    files = planned(source, tmp_path / "features", tiny_models)
    with pytest.raises(ServingError, match=r"the worker node:7 has written .*part-00000-of-00003.parquet, which"):
        Checks(source, files).check(0, Counts(images=5), "node:7")

    moved = folder.rename(tmp_path / "away")
    result = work(PartWorker(settings(files, model)), source, files, 0)
    moved.rename(folder)
    counts = Counts.from_json(str(result["counts"]))
    assert counts.unreadable == 5
    with pytest.raises(ServingError, match=r"the worker node:7 could not read any of 5 images of which at least"):
        Checks(source, files).check(0, counts, "node:7")
    assert files.counts_of(0) is None, "the part is done again"
    work(PartWorker(settings(files, model)), source, files, 0)
    read = files.counts_of(0)
    assert read is not None
    Checks(source, files).check(0, read, "node:7")
    assert read.unreadable < 5


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there (Connection refused)"),
        ("ray://head:10001", "pass HOST:PORT of the cluster's head, or 'auto'"),
        ("head", "pass HOST:PORT, such as 10.0.0.1:6379, or 'auto'"),
        ("head:99999", "no Ray cluster answers there"),
    ],
)
def test_an_address_without_a_cluster_is_refused(
    address: str, reason: str, folder: Path, tiny_models: Path, tmp_path: Path
) -> None:
    """Before Ray, which would wait for two minutes, is asked."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    options = ("--model", tiny_models / "tiny", "--engine", "ray", "--ray-address", address)
    result = extract(folder, tmp_path / "features.parquet", *options)

    assert result.exit_code == 1
    assert "Error: --ray-address" in result.stderr
    assert reason in result.stderr
    assert not (tmp_path / "features.parquet").exists()


def test_options_of_ray_need_the_engine(folder: Path, tiny_models: Path, tmp_path: Path) -> None:
    """--actors without --engine ray would have no effect."""
    result = extract(folder, tmp_path / "f.parquet", "--model", tiny_models / "tiny", "--actors", 2)
    assert result.exit_code == 2
    assert "--actors requires --engine ray" in result.stderr
