"""Tests of `onnx.devices` and `onnx.buffers`, as far as they do not need a GPU.

The buckets, the padding and the IO binding run on the CPU provider here; the providers' options are compared as values.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from partedvae.serving.bundle import load_bundle
from partedvae.serving.errors import DeviceError
from partedvae.serving.onnx.buffers import BUCKETS, BucketedSession, TensorSpec, bucket_for
from partedvae.serving.onnx.devices import CPU, CUDA, GPUS, TENSORRT, choose, memory_of, providers
from partedvae.serving.onnx.model import MAX_ROWS, OnnxModel
from partedvae.serving.onnx_runtime import ort
from tests.bundles import GREY

INPUTS: dict[str, TensorSpec] = {"images": ("tensor(uint8)", [8, 6, 1])}
OUTPUTS: dict[str, TensorSpec] = {
    name: ("tensor(float)", [weight.shape[1]]) for name, weight in GREY.weights.items() if name != "decoder"
}


class SpySession(ort.InferenceSession):  # type: ignore[misc]  # the library has no types
    """A session that records the batch sizes that it runs."""

    def run_with_iobinding(self, iobinding: ort.IOBinding, run_options: ort.RunOptions | None = None) -> None:
        self.sizes = [*getattr(self, "sizes", []), iobinding._bound_inputs["images"].shape()[0]]
        super().run_with_iobinding(iobinding, run_options)


@pytest.fixture
def session(tiny_models: Path) -> SpySession:
    return SpySession(tiny_models / "tiny" / "1" / "encoder.onnx", providers=[CPU])


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (2, 4), (4, 4), (5, 16), (33, 64), (129, 256), (256, 256)])
def test_bucket_for(rows: int, expected: int) -> None:
    """Batches are padded to the next bucket."""
    assert bucket_for(rows) == expected


def test_a_run_never_exceeds_the_last_bucket() -> None:
    """The model runs larger batches in slices of the last bucket."""
    assert BUCKETS[-1] == MAX_ROWS


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 16])
def test_padding_leaves_no_trace(session: SpySession, rows: int) -> None:
    """Each caller gets its own rows, the same as without padding, and only the shapes of buckets are run."""
    bucketed = BucketedSession(session, INPUTS, OUTPUTS, buckets=(1, 4, 16))
    bucketed.run(["z_mean"], {"images": GREY.random_images(16, seed=9)})
    images = GREY.random_images(rows)
    found = bucketed.run(list(OUTPUTS), {"images": images})
    alone = session.run(list(OUTPUTS), {"images": images})
    for name, values, expected in zip(OUTPUTS, found, alone, strict=True):
        assert values.shape == expected.shape
        np.testing.assert_allclose(values, expected, atol=1e-6, err_msg=name)
    assert set(session.sizes) <= {1, 4, 16}


def test_results_are_not_overwritten_by_the_next_run(session: SpySession) -> None:
    """Results do not share the buffers of later runs, also from many threads."""
    bucketed = BucketedSession(session, INPUTS, OUTPUTS, buckets=(4,))
    batches = [GREY.random_images(3, seed) for seed in range(50)]
    with ThreadPoolExecutor(4) as executor:
        results = list(executor.map(lambda images: bucketed.run(["z_mean"], {"images": images})[0], batches))
    for images, z_mean in zip(batches, results, strict=True):
        np.testing.assert_allclose(z_mean, GREY.encode(images)["z_mean"], atol=1e-5)


def test_warm_up_runs_every_bucket(session: SpySession) -> None:
    """After the warm-up no request has a new shape."""
    BucketedSession(session, INPUTS, OUTPUTS).warm_up()
    assert session.sizes == list(BUCKETS)


def test_a_model_in_buckets(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model returns the same in buckets as without, also for a batch above the last bucket."""
    plain = OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"))
    # The CPU as if it were a GPU.
    monkeypatch.setattr("partedvae.serving.onnx.sessions.GPUS", {"cuda": GPUS["cuda"]._replace(provider=CPU)})
    bucketed = OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"), "cpu")
    bucketed.warm_up()
    images = GREY.random_images(MAX_ROWS + 3)
    encoded = [model.encode(images, ["digit.u_mean", "z_mean"]) for model in (plain, bucketed)]
    for name in ("digit.u_mean", "z_mean"):
        np.testing.assert_allclose(encoded[0][name], encoded[1][name], atol=1e-6)
    u, z = encoded[0]["digit.u_mean"], encoded[0]["z_mean"]
    np.testing.assert_array_equal(plain.decode(u, z), bucketed.decode(u, z))


def test_auto_is_cuda_and_never_tensorrt() -> None:
    """`auto` is CUDA if available, and the CPU otherwise; TensorRT must be requested."""
    assert choose("auto", [TENSORRT, CUDA, CPU]) == "cuda"
    assert choose("auto", [CPU]) == "cpu"
    assert choose("tensorrt", [CPU]) == "tensorrt"


def test_options_of_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA selects convolutions by heuristics; TensorRT builds one engine for all sizes, cached on disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    inputs = {"u": [3], "z": [4]}
    cuda = (CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"})
    assert providers("cpu", inputs, 256) == [(CPU, {})]
    assert providers("cuda", inputs, 256) == [cuda, (CPU, {})]
    (tensorrt, options), *others = providers("tensorrt", inputs, 256, "ab12")
    assert (tensorrt, others) == (TENSORRT, [cuda, (CPU, {})])
    assert options == {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": "/cache/partedvae/tensorrt",
        "trt_engine_cache_prefix": "partedvae_ab12",
        "trt_profile_min_shapes": "u:1x3,z:1x4",
        "trt_profile_opt_shapes": "u:256x3,z:256x4",
        "trt_profile_max_shapes": "u:256x3,z:256x4",
    }


def test_memory_of_providers() -> None:
    """TensorRT's tensors are in CUDA's memory."""
    assert [memory_of(provider) for provider in (CPU, CUDA, TENSORRT)] == ["cpu", "cuda", "cuda"]


def test_tensorrt_without_its_provider(tiny_models: Path) -> None:
    """Requesting TensorRT from an ONNX Runtime without it fails, and the error says what to install."""
    with pytest.raises(DeviceError, match=r"no TensorrtExecutionProvider: install partedvae\[gpu\].*--device cpu"):
        OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"), "tensorrt")


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_tensorrt_that_does_not_work(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists TensorRT, but falls back: the error names the libraries to check."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    with pytest.raises(DeviceError, match=r"Tensorrt.* fell back to CPUExecutionProvider; .*TensorRT's libraries"):
        OnnxModel.load(load_bundle(tiny_models / "tiny" / "1"), "tensorrt")
