"""The parts of the demo; tests/e2e runs the same steps."""

import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from partedvae import Client, ModelDetails
from partedvae.cli.demo import MARKER, _create_output, _matching, _server, _step
from partedvae.cli.main import main
from tests.bundles import GREY

pytestmark = pytest.mark.slow


def test_another_folder_is_not_replaced(tmp_path: Path) -> None:
    """An `--output` that was not made by the demo is an error before anything runs."""
    (tmp_path / "thesis.tex").touch()
    result = CliRunner().invoke(main, ["demo", "--output", str(tmp_path)])

    assert result.exit_code == 1
    assert result.output == (
        f"Error: {tmp_path} exists and was not made by the demo; choose another folder with --output\n"
    )
    assert (tmp_path / "thesis.tex").exists()


def test_the_folder_of_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    """A second demo starts with an empty folder."""
    folder = tmp_path / "demo"
    _create_output(folder)
    (folder / "features.parquet").touch()
    _create_output(folder)

    assert [path.name for path in folder.iterdir()] == [MARKER]


def test_a_failing_step_ends_the_demo_with_its_code(capfd: pytest.CaptureFixture[str]) -> None:
    """The step is printed as typed, its own message is shown, and its exit code is that of the demo."""
    with pytest.raises(click.exceptions.Exit) as caught:
        _step("serve", "no such folder")

    out, err = capfd.readouterr()
    assert caught.value.exit_code == 1
    assert out == "\n$ partedvae serve 'no such folder'\n"
    assert "Error: no such folder is not a folder of models" in err
    assert err.endswith("Error: the demo stopped: 'partedvae serve' failed with exit code 1; see above\n")


def test_the_server_ends_with_the_block(tiny_models: Path) -> None:
    """The server runs for the duration of the block, also when the block raises."""
    addresses = []

    def fail_while_it_serves() -> None:
        with _server(tiny_models) as address, Client(address) as client:
            addresses.append(address)
            assert [model.name for model in client.models()] == ["tiny"]
            raise RuntimeError("another error")

    with pytest.raises(RuntimeError, match="another error"):
        fail_while_it_serves()

    with Client(addresses[0]) as client, pytest.raises(ConnectionError, match="no server answers"):
        client.models()


def test_a_server_that_does_not_start_ends_the_demo(tmp_path: Path) -> None:
    """The exit code of `partedvae serve` is that of the demo."""
    with pytest.raises(click.exceptions.Exit) as caught, _server(tmp_path):
        pass

    assert caught.value.exit_code == 1


def test_a_terminated_demo_stops_its_server(tiny_models: Path) -> None:
    """SIGTERM to the process of the demo stops the server that it started."""
    program = """
import os, signal, sys
from pathlib import Path
from partedvae.cli import demo
from partedvae.cli.termination import exit_on_termination
with exit_on_termination(), demo._server(Path(sys.argv[1])) as address:
    print(address, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_models)], capture_output=True, text=True, check=False, env=os.environ
    )

    assert done.returncode == 143
    with Client(done.stdout.split()[-1]) as client, pytest.raises(ConnectionError, match="no server answers"):
        client.models()


def test_matching_counts_equal_classes(tmp_path: Path) -> None:
    """Classes that differ or are missing are not counted."""
    pq.write_table(pa.table({"digit": ["3", "1", None, "9"]}), tmp_path / "features.parquet")
    np.savez(tmp_path / "predictions.npz", digit=np.array([3, 2, 0, 9]))
    model = ModelDetails(name="tiny", version=1, manifest=GREY.manifest(), execution_provider="")

    assert _matching(tmp_path / "features.parquet", tmp_path / "predictions.npz", model) == 2
