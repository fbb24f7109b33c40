"""Server and model of the client's commands: on the command line and in the environment."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from partedvae.cli.main import main
from tests.bundles import GREY
from tests.partedvae.fake_server import fake_server
from tests.processes import ServerProcess


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """Return a file of images that `extract` reads."""
    np.save(tmp_path / "images.npy", GREY.random_images(2))
    return tmp_path / "images.npy"


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)


def test_server_and_token_from_the_environment(tmp_path: Path) -> None:
    """An option on the command line overrides its variable."""
    token = tmp_path / "token"
    token.write_text("mine\n")
    with fake_server() as first, fake_server() as second:
        variables = {"PARTEDVAE_SERVER": first.address, "PARTEDVAE_TOKEN_FILE": str(token)}
        assert run("models", **variables).exit_code == 0
        assert run("models", "--server", second.address, **variables).exit_code == 0
        assert (first.tokens, second.tokens) == (["Bearer mine"], ["Bearer mine"])


@pytest.mark.parametrize(
    "name", ["SERVER", "TIMEOUT", "TOKEN_FILE", "TLS", "TLS_CA", "TLS_CERT", "TLS_KEY", "MODEL", "MODEL_VERSION"]
)
def test_an_empty_variable_is_an_error(tmp_path: Path, name: str) -> None:
    """It means neither plain text, nor no token, nor the default server."""
    with fake_server() as server:
        command = ("generate", "--output", tmp_path / "x.png")
        for value in ("", " "):
            environment = {"PARTEDVAE_SERVER": server.address, f"PARTEDVAE_{name}": value}
            result = run(*command, **environment)
            assert result.exit_code == 2
            assert (
                f"the environment variable PARTEDVAE_{name} is empty: set it to a value, or unset it" in result.output
            )
        assert server.calls == 0


def test_an_empty_variable_of_the_health_check_is_an_error(server: ServerProcess) -> None:
    """The general variable does not replace it."""
    result = run("health", PARTEDVAE_HEALTH_SERVER="", PARTEDVAE_SERVER=server.address)
    assert result.exit_code == 2
    assert "the environment variable PARTEDVAE_HEALTH_SERVER is empty" in result.output


@pytest.mark.parametrize("command", ["models", "classify", "generate", "traverse", "transfer", "extract", "health"])
def test_help_has_the_variables(command: str) -> None:
    text = " ".join(run(command, "--help").output.split())
    for name in ("SERVER", "TIMEOUT", "TOKEN_FILE", "TLS", "TLS_CA", "TLS_CERT", "TLS_KEY"):
        assert f"PARTEDVAE_{name}" in text
    if command not in ("models", "health"):
        assert "PARTEDVAE_MODEL_NAME" in text
        assert "PARTEDVAE_MODEL_VERSION" in text


def test_the_health_checks_own_variable_comes_first(server: ServerProcess) -> None:
    result = run("health", PARTEDVAE_HEALTH_SERVER=server.address, PARTEDVAE_SERVER="127.0.0.1:1")
    assert (result.exit_code, result.output) == (0, "SERVING\n")
    result = run("health", PARTEDVAE_SERVER=server.address)
    assert (result.exit_code, result.output) == (0, "SERVING\n")


@pytest.mark.parametrize("variable", ["PARTEDVAE_MODEL", "PARTEDVAE_MODEL_NAME"])
def test_a_version_is_selected(two_model_server: ServerProcess, tmp_path: Path, variable: str) -> None:
    """By options and by variables; the newest by default, and an error lists those that exist."""
    server = ("--server", two_model_server.address)
    command = ("generate", "--count", 1, "--seed", 0, "--output", tmp_path / "x.png", *server)
    missing = "model 'tiny' has no version 9: there are [1, 2]"

    assert run(*command, "--model", "tiny", "--model-version", 1).exit_code == 0
    assert missing in run(*command, "--model-name", "tiny", "--model-version", 9).output
    assert missing in run(*command, PARTEDVAE_MODEL_VERSION="9", **{variable: "tiny"}).output


def test_classify_reports_the_selected_version(two_model_server: ServerProcess, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(GREY.random_images(1)[0, ..., 0]).save(tmp_path / "a.png")
    options = ("--server", two_model_server.address, "--model", "tiny", "--json")
    assert '"version": 2' in run("classify", tmp_path / "a.png", *options).output
    assert '"version": 1' in run("classify", tmp_path / "a.png", *options, "--model-version", 1).output


@pytest.mark.parametrize("option", ["--model", "--model-name"])
def test_a_path_is_not_a_name(tmp_path: Path, option: str) -> None:
    result = run("generate", "--output", tmp_path / "x.png", option, "models/mnist")
    assert result.exit_code == 2
    assert "Invalid value for '--model-name'" in result.output
    assert "'models/mnist' is a path; a server's models are selected by their name" in result.output
    help_text = run("generate", "--help").output
    assert "--model-name NAME" in help_text
    assert "--model " not in help_text
    assert "PARTEDVAE_MODEL," not in help_text


def test_extract_of_one_version(two_model_server: ServerProcess, two_models: Path, array: Path, tmp_path: Path) -> None:
    """From a server by name, and from a folder in this process."""
    server = ("--server", two_model_server.address, "--model-name", "tiny")
    for where in (server, ("--model", two_models / "tiny")):
        for version in (1, 2):
            output = tmp_path / f"{version}.npz"
            assert run("extract", array, "--output", output, *where, "--model-version", version).exit_code == 0
            assert json.loads(str(np.load(output)["metadata"]))["partedvae.version"] == str(version)
        result = run("extract", array, "--output", tmp_path / "9.npz", *where, "--model-version", 9)
        assert result.exit_code == 1
        assert "model 'tiny' has no version 9" in result.output
    folder, output = two_models / "tiny" / "1", tmp_path / "x.npz"
    assert run("extract", array, "--output", output, "--model", folder).exit_code == 0
    assert json.loads(str(np.load(output)["metadata"]))["partedvae.version"] == "1"
    result = run("extract", array, "--output", output, "--model", folder, "--model-version", 2)
    assert (result.exit_code, "is version 1 of model 'tiny', not 2" in result.output) == (1, True)
    result = run("extract", array, "--output", output, *server, "--model-version", 2**63)
    assert (result.exit_code, "9223372036854775808 is not in the range 0<=x<=9223372036854775807" in result.output) == (
        2,
        True,
    )


def test_extract_in_this_process_beside_a_server_in_the_environment(
    tiny_models: Path, array: Path, tmp_path: Path
) -> None:
    """The environment is for commands that need a server; --model needs none."""
    environment = {"PARTEDVAE_SERVER": "127.0.0.1:1", "PARTEDVAE_MODEL_NAME": "other", "PARTEDVAE_MODEL_VERSION": "7"}
    command = ("extract", array, "--output", tmp_path / "x.npz")

    result = run(*command, "--model", tiny_models / "tiny", **environment)
    assert (result.exit_code, (tmp_path / "x.npz").exists()) == (0, True), result.output
    result = run(*command, "--model", tiny_models / "tiny", "--model-name", "tiny", **environment)
    assert result.exit_code == 2
    assert "--model-name requires --server; --model is the folder of a model" in result.output
    result = run(*command, **environment)
    assert result.exit_code == 1
    assert "no server answers at 127.0.0.1:1" in result.output


@pytest.mark.parametrize(("option", "value"), [("--device", "cpu"), ("--precision", "int8")])
def test_a_server_has_its_own_device_and_precision(array: Path, tmp_path: Path, option: str, value: str) -> None:
    """An option that a server would not obey is an error, before it is asked."""
    result = run("extract", array, "--output", tmp_path / "x.npz", "--server", "127.0.0.1:1", option, value)
    assert result.exit_code == 2
    assert f"{option} requires --model; a server is started with a {option} of its own" in result.output


def test_the_timeout(server: ServerProcess, array: Path, tmp_path: Path) -> None:
    """Of the commands' calls; the error names the option. In this process there are no calls."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # Accepts connections, and never answers.
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = run("models", "--server", address, "--timeout", "0.2")
        message = f"Error: the server at {address} did not answer in time; try again with a longer --timeout\n"
        assert (result.exit_code, result.output) == (1, message)
        assert run("models", PARTEDVAE_SERVER=address, PARTEDVAE_TIMEOUT="0.2").output == message
    assert run("models", "--server", server.address, "--timeout", "30").exit_code == 0
    result = run("extract", array, "--output", tmp_path / "x.npz", "--model", tmp_path, "--timeout", "3")
    assert (result.exit_code, "--timeout requires --server" in result.output) == (2, True)


def test_one_of_several_models_is_selected_by_an_option(two_model_server: ServerProcess, tmp_path: Path) -> None:
    result = run("generate", "--server", two_model_server.address, "--output", tmp_path / "x.png")
    assert result.exit_code == 1
    assert result.output == ("Error: there are several models; pass --model-name with one of ['shapes', 'tiny']\n")
