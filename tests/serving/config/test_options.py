"""Tests of the configuration of `partedvae serve`: flags, environment and file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click
import grpc
import pytest
from click.testing import CliRunner, Result

from partedvae.common.cpus import available_cpus
from partedvae.serving.cli import serve
from partedvae.serving.config.options import misspelt_variables
from partedvae.serving.config.serve_config import ServeConfig, options
from partedvae.serving.errors import ConfigError
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.processes import running_server


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder, and return the path of the config.toml that the test writes."""
    monkeypatch.chdir(tmp_path)
    return Path("config.toml")


def run(*arguments: str, **variables: str) -> Result:
    """Run the command with environment variables; the prefix PARTEDVAE_SERVE_ is added to their names."""
    env = {f"PARTEDVAE_SERVE_{name}": value for name, value in variables.items()}
    return CliRunner().invoke(serve, [*arguments], env=env)


def test_the_command_has_all_options_with_their_defaults() -> None:
    """The command has an option for each field of `ServeConfig`, with the same default."""
    offered = {p.name: p for p in serve.params if isinstance(p, click.Option)}
    assert offered.keys() == {item.name for item in options()} | {"config", "print_config"}
    assert {item.name: offered[item.name].default for item in options()} == {
        item.name: item.default for item in options()
    }


def test_precedence(config_file: Path) -> None:
    """A flag overrides the environment, the environment the file, and the file the default."""
    config_file.write_text('models-dir = "file"\nmax-images = 1\nmax-pixels = 1\nmax-queue-delay-ms = 1\nworkers = 3\n')
    result = run(
        "--print-config", "--max-images", "3", MAX_IMAGES="2", MAX_PIXELS="2", CONFIG=str(config_file), OTEL="1"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    for line in (
        'models-dir = "file"  # file, config.toml',
        "max-images = 3  # command line",
        "max-pixels = 2  # environment, PARTEDVAE_SERVE_MAX_PIXELS",
        "max-queue-delay-ms = 1.0  # file, config.toml",
        "otel = true  # environment, PARTEDVAE_SERVE_OTEL",
        "max-queue-rows = 4096  # default",
        f"# threads = {max(1, available_cpus() // 3)}  # default: available CPUs divided by workers",
        "# token-file is not set",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("arguments", "variables", "text", "source"),
    [
        (["--max-calls", "7"], {}, "", "command line"),
        (["--max-concurrent-calls", "7"], {"MAX_CALLS": "5"}, "max-calls = 6", "command line"),
        ([], {"MAX_CALLS": "7"}, "max-calls = 6", "environment, PARTEDVAE_SERVE_MAX_CALLS"),
        ([], {"MAX_CONCURRENT_CALLS": "7", "MAX_CALLS": "5"}, "", "environment, PARTEDVAE_SERVE_MAX_CONCURRENT_CALLS"),
        ([], {}, "max-calls = 7", "file, config.toml"),
    ],
)
def test_former_names(
    config_file: Path, arguments: list[str], variables: dict[str, str], text: str, source: str
) -> None:
    """The former name of an option is accepted as flag, variable and key without a warning; the new one is printed."""
    config_file.write_text(text)
    result = run("m", *arguments, "--config", "config.toml", "--print-config", **variables)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"max-concurrent-calls = 7  # {source}" in result.stdout.splitlines()


def test_former_names_are_hidden() -> None:
    """The help and error messages show only the new names."""
    text = run("--help").stdout
    assert "--max-concurrent-calls" in text
    assert "--max-queue-delay-ms" in text
    assert "--max-calls" not in text
    assert "--max-delay-ms" not in text
    assert "Invalid value for '--max-queue-delay-ms': -1.0 is not" in run("m", "--max-delay-ms", "-1").stderr


def test_both_names_in_a_file(config_file: Path) -> None:
    """A file that sets an option by both names is rejected."""
    config_file.write_text("max-delay-ms = 1\nmax-queue-delay-ms = 2\n")
    result = run("m", "--config", "config.toml", "--print-config")
    assert result.exit_code == 2
    assert "config.toml: max-queue-delay-ms and max-delay-ms are the same option; set only one of them" in result.stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_of_windows(config_file: Path, encoding: str) -> None:
    config_file.write_bytes("max-images = 7\r\n".encode(encoding))
    result = run("models", "--config", "config.toml", "--print-config")
    assert "max-images = 7" in result.stdout


def test_a_switch_can_be_turned_off(config_file: Path) -> None:
    """A flag disables what the file enables."""
    config_file.write_text("otel = true\n")
    assert "otel = false  # command line" in run("m", "--config", "config.toml", "--no-otel", "--print-config").stdout


def test_printed_config_can_be_read(config_file: Path) -> None:
    """The output of --print-config is an equivalent file for --config; it contains the token file's path, no tokens."""
    Path("tokens").write_text("very-secret\n")
    first = run("m", "--token-file", "tokens", "--log-format", "json", "--address", "[::1]:0", "--print-config")
    config_file.write_text(first.stdout)
    second = run("--config", "config.toml", "--print-config")
    assert tomllib.loads(second.stdout) == tomllib.loads(first.stdout)
    assert tomllib.loads(first.stdout)["token-file"] == "tokens"
    assert "very-secret" not in first.stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "text", "message"),
    [
        (["--workers", "0"], {}, "", "'--workers': 0 is not in the range 1<=x<=256"),
        (["--device", "gpu"], {}, "", "'--device': 'gpu' is not one of"),
        ([], {"WORKERS": "many"}, "", "(from environment, PARTEDVAE_SERVE_WORKERS)"),
        ([], {"LOG_FORMAT": "xml"}, "", "(from environment, PARTEDVAE_SERVE_LOG_FORMAT)"),
        ([], {}, "max-images = 0", "'--max-images': 0 is not in the range x>=1. (from file, config.toml)"),
        ([], {}, "max-image = 1", "config.toml: there is no option 'max-image'; did you mean 'max-images'?"),
        ([], {}, "max_images = 1", "config.toml: there is no option 'max_images'; did you mean 'max-images'?"),
        ([], {}, "[serve]\nworkers = 2", "config.toml: there is no option 'serve'"),
        ([], {}, 'workers = "2"', "config.toml: workers is '2'; expected a whole number"),
        ([], {}, "workers = true", "config.toml: workers is True; expected a whole number"),
        ([], {}, "otel = 1", "config.toml: otel is 1; expected true or false"),
        ([], {}, "address = 50051", "config.toml: address is 50051; expected a string"),
        ([], {}, "workers: 2", "config.toml is not TOML: "),
        (["--config", "nowhere.toml"], {}, "", "cannot read nowhere.toml: No such file or directory"),
        (["--tls-cert", "c"], {}, "", "--tls-cert requires --tls-key: TLS needs both"),
        ([], {"TLS_KEY": "k"}, "", "--tls-key requires --tls-cert: TLS needs both"),
        (["--address", "here"], {}, "", "the address 'here' is not HOST:PORT"),
        (["--print-config"], {}, 'metrics-address = "here"', "the address 'here' is not HOST:PORT"),
        (["--tls-client-ca", "c"], {}, "", "--tls-client-ca requires --tls-cert and --tls-key"),
    ],
)
def test_bad_options(
    config_file: Path, arguments: list[str], variables: dict[str, str], text: str, message: str
) -> None:
    """An invalid value is reported with its option and its source, for every source."""
    config_file.write_text(text)
    if "--config" not in arguments:
        arguments = [*arguments, "--config", "config.toml"]
    result = run("models", *arguments, **variables)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert result.stdout == ""


OPTION_NAMES = [*(item.name for item in options()), "config", "max_calls", "max_delay_ms"]


@pytest.mark.parametrize("value", ["", " \t"])
@pytest.mark.parametrize("name", OPTION_NAMES)
def test_an_empty_variable_is_an_error(name: str, value: str) -> None:
    """It does not mean the default, which has no tokens, no TLS and wide limits. Former names too."""
    result = run("models", "--print-config", **{name.upper(): value})
    assert (result.exit_code, result.stdout) == (2, "")
    variable = f"PARTEDVAE_SERVE_{name.upper()}"
    assert f"the environment variable {variable} is empty: set it to a value, or unset it" in result.stderr


@pytest.mark.parametrize("name", ["token-file", "tls-cert", "tls-key", "tls-client-ca", "metrics-address", "address"])
def test_an_empty_value_is_an_error(config_file: Path, name: str) -> None:
    """A flag and a line of the file, also with spaces alone."""
    for value in ("", "  "):
        result = run("models", f"--{name}", value, "--print-config")
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"Invalid value for '--{name}': the value is empty: pass one, or omit the option" in result.stderr
        config_file.write_text(f'{name} = "{value}"\n')
        result = run("models", "--config", "config.toml", "--print-config")
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"Invalid value for '--{name}': the value is empty" in result.stderr
        assert "(from file, config.toml)" in result.stderr


def test_only_the_value_that_counts_must_not_be_empty(config_file: Path) -> None:
    """A flag overrides an empty variable, and an option's variable that of its former name; a file does not."""
    result = run(
        "models", "--token-file", "tokens", "--print-config", TOKEN_FILE="", MAX_CONCURRENT_CALLS="7", MAX_CALLS=""
    )
    assert result.exit_code == 0, result.stderr
    assert 'token-file = "tokens"  # command line' in result.stdout
    assert "max-concurrent-calls = 7  # environment, PARTEDVAE_SERVE_MAX_CONCURRENT_CALLS" in result.stdout
    config_file.write_text('token-file = "tokens"\n')
    result = run("models", "--config", "config.toml", "--print-config", TOKEN_FILE="")
    assert result.exit_code == 2
    assert "PARTEDVAE_SERVE_TOKEN_FILE is empty" in result.stderr


def test_ranges_are_checked_without_the_command() -> None:
    """A `ServeConfig` created in Python is checked as well."""
    with pytest.raises(ConfigError, match="--workers is 0; choose 1 to 256"):
        ServeConfig(models_dir=Path("m"), workers=0)
    with pytest.raises(ConfigError, match="--max-images is 0; choose at least 1"):
        ServeConfig(models_dir=Path("m"), max_images=0)


def test_misspelt_variables() -> None:
    """A misspelt variable causes a warning; variables that Kubernetes sets for a service of that name do not."""
    environment = {
        "PARTEDVAE_SERVE_MAX_IMGES": "1",
        "PARTEDVAE_SERVE_WORKERS": "1",
        "PARTEDVAE_SERVE_PORT": "tcp://10.0.0.1:50051",
        "PARTEDVAE_SERVE_SERVICE_HOST": "10.0.0.1",
        "HOME": "/",
    }
    assert misspelt_variables(environment) == [
        "the variable PARTEDVAE_SERVE_MAX_IMGES has no effect; did you mean 'PARTEDVAE_SERVE_MAX_IMAGES'?"
    ]


@pytest.mark.slow
def test_server_uses_file_and_environment(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server uses the options of the file and the environment."""
    (tmp_path / "config.toml").write_text("max-images = 3\nlog-level = 'debug'\n")
    monkeypatch.setenv("PARTEDVAE_SERVE_LOG_FORMAT", "json")
    with running_server(tiny_models, "--config", str(tmp_path / "config.toml")) as server:
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
            PartedVAEServiceStub(channel).Generate(pb.GenerateRequest(count=4))
        assert "a count of 4 images is out of range: choose 1 to 3" in (caught.value.details() or "")
        server.stop()
        assert '"method": "/partedvae.v1.PartedVAEService/Generate"' in server.log_file.read_text()
