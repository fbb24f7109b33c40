import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import GREY
from tests.processes import running_server

pytestmark = pytest.mark.slow

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
SERVE = WITHOUT_TORCH + "from partedvae.cli.main import main; main(['serve', *sys.argv[1:]])"
ASK = (
    WITHOUT_TORCH
    + """
import numpy as np
from partedvae import Client
from partedvae.cli.main import main
with Client(sys.argv[1]) as client:
    features = client.features(np.load("images.npy"))
    print(features.u.shape, *features.classes)
main(["extract", "images.npy", "--output", "x.npz", "--server", sys.argv[1]], standalone_mode=False)
main(["extract", "images.npy", "--output", "y.npz", "--model", sys.argv[2]], standalone_mode=False)
"""
)


def test_serving_and_the_client_need_no_torch(tiny_models: Path, tmp_path: Path) -> None:
    """A server, a client and batch extraction work where torch cannot be imported."""
    import numpy as np

    images = GREY.random_images(5)
    np.save(tmp_path / "images.npy", images)
    classes = GREY.encode(images)["digit.probs"].argmax(axis=1)

    with running_server(tiny_models, program=("-c", SERVE)) as server:
        program = [sys.executable, "-c", ASK, server.address, str(tiny_models / "tiny")]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.split() == ["(5,", "3)", *map(str, classes)]
    assert [line.partition(" (")[0] for line in rest] == ["5 images -> x.npz", "5 images -> y.npz"]
