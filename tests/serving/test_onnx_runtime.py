"""ONNX Runtime has no telemetry, and is refused where two of its packages are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from partedvae.serving import onnx_runtime
from partedvae.serving.errors import InstallationError
from tests.bundles import GREY

RUN = """
import sys
import numpy as np
from partedvae.serving import load
print(load(sys.argv[1]).features(np.zeros((3, 8, 6), np.uint8)).u.shape)
"""


@pytest.mark.exhaustive
def test_computing_features_stores_nothing_in_the_home_folder(tmp_path: Path) -> None:
    """The wheels for Linux otherwise store a device id and a database of events, and upload them."""
    home = tmp_path / "home"
    home.mkdir()
    GREY.write(tmp_path / "models" / "tiny")
    env = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    # If it is enabled, nothing is sent.
    env |= {"HOME": str(home), "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    result = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "models" / "tiny")],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stdout == "(3, 3)\n", result.stderr
    assert list(home.rglob("*")) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_extraction_connects_to_nothing_and_writes_its_output_alone(tmp_path: Path) -> None:
    """Of the system calls of all threads, none opens a socket, and only the output is opened for writing."""
    GREY.write(tmp_path / "models" / "tiny")
    np.save(tmp_path / "images.npy", GREY.random_images(3))
    calls = tmp_path / "calls"
    trace = ["strace", "-f", "-qq", "-o", str(calls), "-e", "trace=socket,connect,openat,open,creat,mkdir,mkdirat"]
    command = [sys.executable, "-m", "partedvae", "extract", "images.npy", "--output", "f.parquet", "--model"]
    env = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    result = subprocess.run(
        [*trace, *command, "models/tiny"],
        env=env | {"HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "ptrace" in result.stderr:
        pytest.skip(result.stderr)
    assert result.returncode == 0, result.stderr
    lines = calls.read_text().splitlines()
    assert any("encoder.onnx" in line for line in lines)
    assert [line for line in lines if re.search(r" (socket|connect)\(", line)] == []
    written = [line for line in lines if re.search(r"O_WRONLY|O_RDWR| creat\(| mkdir(at)?\(", line)]
    ours = ("f.parquet", "/dev/", "/proc/", "EEXIST")
    assert [line for line in written if not any(name in line for name in ours)] == []


def test_the_users_choice_of_telemetry_is_kept(tmp_path: Path) -> None:
    env = os.environ | {"ORT_DISABLE_TELEMETRY": "0", "HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    code = "import os; import partedvae.serving.onnx_runtime; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    result = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout == "0\n", result.stderr


def test_two_packages_are_refused_with_what_to_uninstall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx_runtime.require_one_package()
    info = tmp_path / "onnxruntime_gpu-1.32.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.32.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InstallationError, match="pip uninstall onnxruntime onnxruntime-gpu, and then install one"):
        onnx_runtime.require_one_package()
