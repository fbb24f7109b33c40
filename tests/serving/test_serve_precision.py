"""Tests of `--precision`: of the server, of extraction, and of models in this process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from partedvae import Client, InvalidRequestError
from partedvae.results import FloatArray
from partedvae.serving import load
from partedvae.serving.errors import DeviceError
from tests.bundles import GREY
from tests.processes import PATIENCE, SERVE, running_server, wait_until
from tests.serving.extraction import extract

INT8 = replace(GREY, has_int8=True)
IMAGES = GREY.random_images(5)
REMEDY = (
    "version {} of model 'tiny' has no encoder.int8.onnx, which precision 'int8' needs; export the run again with "
    "'partedvae export --precision int8', or choose --precision fp32"
)


def assert_close(actual: FloatArray | None, expected: FloatArray) -> None:
    assert actual is not None
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.slow
def test_a_server_runs_the_encoder_of_8_bit_integers(tmp_path: Path) -> None:
    """It says so in GetModel and in the log; a version without that encoder is refused, the previous one stays."""
    INT8.write(tmp_path / "tiny")
    with (
        running_server(tmp_path, "--precision", "int8", "--poll-seconds", "0.1") as server,
        Client(server.address) as client,
    ):
        info = client.model_info()
        assert (info.precision, info.to_dict()["precision"]) == ("int8", "int8")
        assert repr(info).endswith(", CPUExecutionProvider int8)")
        assert info.manifest.int8_encoder.tolerance == 0.1
        assert_close(client.features(IMAGES, include=["z_mean"]).z, GREY.encode(IMAGES, int8=True)["z_mean"])
        GREY.write(tmp_path / "tiny")
        wait_until(lambda: len(client.models()) == 2)
        first, second = client.models()
        assert (first.ready, first.is_default, second.ready) == (True, True, False)
        assert second.reason == REMEDY.format(2)
        log = server.log_file.read_text()
        assert "loaded tiny version 1 on CPUExecutionProvider, int8" in log
        assert f"refused: {REMEDY.format(2)}" in log


@pytest.mark.slow
def test_a_server_runs_fp32_by_default(tmp_path: Path) -> None:
    INT8.write(tmp_path / "tiny")
    with running_server(tmp_path) as server, Client(server.address) as client:
        assert client.model_info().precision == "fp32"
        assert_close(client.features(IMAGES, include=["z_mean"]).z, GREY.encode(IMAGES)["z_mean"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], REMEDY.format(1)),
        (["--device", "cuda"], "--precision int8 is not available with --device cuda; choose --device cpu, or"),
    ],
)
def test_a_server_that_cannot_run_int8_does_not_start(tiny_models: Path, options: list[str], message: str) -> None:
    command = [sys.executable, *SERVE, str(tiny_models), "--precision", "int8", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_extraction_takes_a_precision(tmp_path: Path) -> None:
    INT8.write(tmp_path / "tiny")
    np.save(tmp_path / "images.npy", IMAGES)
    for precision in ("fp32", "int8"):
        output = tmp_path / f"{precision}.npz"
        model = ("--model", tmp_path / "tiny", "--precision", precision, "--include-z")
        result = extract(tmp_path / "images.npy", output, *model)
        assert result.exit_code == 0, result.output
        with np.load(output) as written:
            z = written["z"]
        assert_close(z, GREY.encode(IMAGES, int8=precision == "int8")["z_mean"])


def test_extraction_from_a_bundle_without_it(tiny_models: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    model = ("--model", tiny_models / "tiny", "--precision", "int8")
    result = extract(tmp_path / "images.npy", tmp_path / "out.npz", *model)
    assert result.exit_code == 1
    assert REMEDY.format(1) in result.output
    assert not (tmp_path / "out.npz").exists()


def test_a_model_in_this_process(tmp_path: Path) -> None:
    INT8.write(tmp_path / "tiny")
    model = load(tmp_path / "tiny", precision="int8")
    assert (model.info.precision, repr(model)) == ("int8", "LocalModel(tiny/1, CPUExecutionProvider int8)")
    assert_close(model.features(IMAGES, include=["z_mean"]).z, GREY.encode(IMAGES, int8=True)["z_mean"])
    with pytest.raises(InvalidRequestError, match="precision is 'int4'; choose from"):
        load(tmp_path / "tiny", precision="int4")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(DeviceError, match="precision 'int8' is not available on device 'cuda'"):
        load(tmp_path / "tiny", precision="int8", device="cuda")
