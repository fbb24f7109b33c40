"""Test of the Open Inference Protocol with tritonclient, in a separate process and environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from partedvae.serving.images import decode
from tests.bundles import GREY
from tests.processes import ServerProcess
from tests.serving.pictures import file_of, noise

ROOT = Path(__file__).parents[4]
PYTHON = ROOT / ".venv-tritonclient" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="'make test-tritonclient' makes the environment that this needs")
def test_tritonclient_gets_features_and_images(server: ServerProcess, tmp_path: Path) -> None:
    """Readiness, metadata, features of pixels and of files, and images from latents, with the numbers of the model."""
    images = GREY.random_images(5)
    files = [file_of(noise(), "JPEG"), file_of(noise(30, 20, "RGB"))]
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "files.npy", np.array(files, dtype=object))
    program = [str(PYTHON), str(Path(__file__).with_name("ask_by_tritonclient.py")), server.address]
    done = subprocess.run(
        [*program, "images.npy", "files.npy", "answers.npz"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "StatusCode.INVALID_ARGUMENT input 'images' has the shape [5, 7, 6, 1]; send UINT8 of"
    )
    answers = np.load(tmp_path / "answers.npz")
    expected = GREY.encode(images)
    np.testing.assert_allclose(answers["u"], expected["digit.u_mean"], atol=1e-5)
    np.testing.assert_allclose(answers["z"], expected["z_mean"], atol=1e-5)
    of_files = GREY.encode(decode(files, GREY.manifest().image))
    np.testing.assert_allclose(answers["u_of_files"], of_files["digit.u_mean"], atol=1e-5)
    again = GREY.decode(answers["u"], answers["z"])
    assert np.abs(answers["images"].astype(int) - again).max() <= 1
