"""Tests of the throughput of ONNX Runtime alone: what is run, and that the best counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import ort_alone
from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.ort_alone import Graph, Limit, OrtAlone
from partedvae.serving.bundle import load_bundle
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.model import DirectModel, run_sync
from partedvae.serving.operations.sampling import generate
from tests.bundles import GREY


@pytest.mark.slow
def test_all_divisions_of_two_processors(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each graph is run in one process with two threads and in two processes, and the sentence names the best."""
    monkeypatch.setattr(ort_alone, "available_cpus", lambda: 2)
    monkeypatch.setattr(ort_alone, "BATCHES", (2, 8))
    measured: list[tuple[int, int, Graph, int, float]] = []
    measure = ort_alone._measure

    def recorded(
        folder: Path, precision: str, processes: int, threads: int, seconds: float
    ) -> list[tuple[Graph, int, float]]:
        results = measure(folder, precision, processes, threads, seconds)
        measured.extend((processes, threads, graph, rows, rate) for graph, rows, rate in results)
        return results

    monkeypatch.setattr(ort_alone, "_measure", recorded)
    alone = OrtAlone(load_bundle(tiny_models / "tiny" / "1"), seconds=0.5)
    alone.measure()
    assert {figures[:4] for figures in measured} == {
        (processes, threads, graph, rows)
        for processes, threads in ((1, 2), (2, 1))
        for graph in ("features", "generate")
        for rows in (2, 8)
    }
    for graph, limit in alone.limits["fp32"].items():
        best = (limit.processes, limit.threads, graph, limit.rows, limit.images_per_second)
        assert best == max((figures for figures in measured if figures[2] == graph), key=lambda figures: figures[-1])
        assert alone.share(graph, limit.images_per_second / 2) == 0.5
    assert (
        f"fp32 encoder {alone.limits['fp32']['features'].images_per_second:,.0f} images/s (batches of "
        in alone.describe()
    )


def test_the_limit_only_rises(monkeypatch: pytest.MonkeyPatch, tiny_models: Path) -> None:
    """A slower repetition changes nothing, and a faster one is kept."""
    monkeypatch.setattr(ort_alone, "available_cpus", lambda: 1)
    alone = OrtAlone(load_bundle(tiny_models / "tiny" / "1"), seconds=1.0, precisions=("fp32", "int8"))
    for rate, expected in ((100.0, 100.0), (50.0, 100.0), (200.0, 200.0)):
        monkeypatch.setattr(
            ort_alone,
            "_measure",
            lambda _, precision, *__, rate=rate: [("features", 64, rate if precision == "fp32" else 3 * rate)],
        )
        alone.measure()
        assert alone.limits["fp32"]["features"].images_per_second == expected
    assert alone.share("features", 300.0) == 1.5
    assert alone.share("features", 300.0, "int8") == 0.5
    assert alone.as_json()["int8"]["features"]["images_per_second"] == 600.0
    assert str(alone.limits["fp32"]["features"]) == "200 images/s (batches of 64, 1 process with 1 thread)"
    assert str(Limit(images_per_second=1234.5, processes=2, threads=2, rows=16)).endswith("2 processes with 2 threads)")


def test_the_graphs_that_are_run(tiny_models: Path) -> None:
    """The runs return what the server's replies contain."""
    model = OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"), threads=1)
    features = ort_alone._runner(model, "features", 3)()
    assert isinstance(features, dict)
    assert {name: array.shape for name, array in features.items()} == {"digit.probs": (3, 10), "digit.u_mean": (3, 3)}
    images = ort_alone._runner(model, "generate", 5)()
    expected = run_sync(generate(DirectModel(model), 5, {}, seed=0)).images
    np.testing.assert_array_equal(images, expected)


@pytest.mark.slow
def test_a_process_that_fails(tmp_path: Path) -> None:
    """A bundle that cannot be loaded in the processes fails the benchmark, and does not wait for ever."""
    bundle = GREY.write(tmp_path / "tiny")
    alone = OrtAlone(bundle, seconds=0.5)
    bundle.encoder_path.write_bytes(b"damaged")
    with pytest.raises(BenchmarkError, match="a process that measures ONNX Runtime alone has ended"):
        alone.measure()
