import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from partedvae.cli.main import GROUP, main
from tests.partedvae.test_package import loaded_after
from tests.processes import PATIENCE, ServerProcess

WITHOUT = "import sys; sys.modules[{module!r}] = None; from partedvae.cli.main import main; main(prog_name='partedvae')"
"""The `partedvae` command in a Python that cannot import a module."""


@click.command()
def interrupted() -> None:
    """Raise KeyboardInterrupt."""
    raise KeyboardInterrupt


@pytest.fixture
def odd_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the subcommands by some that fail."""
    values = {
        "interrupted": "tests.partedvae.cli.test_main:interrupted",
        "ours": "partedvae.serving.no_such_module:ours [serve]",
        "theirs": "no_such_package.cli:theirs [serve]",
    }
    entry_points = {name: EntryPoint(name=name, value=value, group=GROUP) for name, value in values.items()}
    monkeypatch.setitem(main.__dict__, "entry_points", entry_points)


def sections_of(text: str) -> dict[str, list[str]]:
    """Return the commands of a help text by heading."""
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            names = sections.setdefault(line[:-1], [])
        elif line.startswith("  ") and not line.startswith("   ") and sections:
            names.append(line.split()[0])
    return {heading: names for heading, names in sections.items() if heading != "Options"}


def test_help_lists_all_commands_under_headings() -> None:
    """In the order in which they are used, and with nothing cut off."""
    listing = CliRunner().invoke(main, ["--help"])

    assert listing.exit_code == 0
    assert sections_of(listing.output) == {
        "Quick start": ["demo"],
        "Training": ["data", "describe", "train", "evaluate", "figures", "compare", "reproduce"],
        "Models": ["export", "serve", "health"],
        "Serving client": ["models", "classify", "generate", "traverse", "transfer"],
        "Batch extraction": ["extract", "suggest"],
        "Web pages": ["explore"],
    }
    assert "..." not in listing.output.partition("Quick start")[2]
    assert "Serve the models of a folder over gRPC until SIGTERM or Ctrl-C." in listing.output


def test_help_loads_nothing_heavy() -> None:
    """`partedvae --help` lists the commands without importing what they need."""
    assert loaded_after("from partedvae.cli.main import main; main(['--help'], standalone_mode=False)") == set()


def test_help_lists_commands_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have a heading of their own, also where one cannot be loaded."""
    values = {
        "interrupted": "tests.partedvae.cli.test_main:interrupted",
        "serve": "partedvae.serving.cli:serve [serve]",
        "theirs": "no_such_package.cli:theirs",
    }
    entry_points = {name: EntryPoint(name=name, value=value, group=GROUP) for name, value in values.items()}
    monkeypatch.setitem(main.__dict__, "entry_points", entry_points)
    output = CliRunner().invoke(main, ["--help"]).output

    assert sections_of(output) == {"Models": ["serve"], "Other commands": ["interrupted", "theirs"]}
    assert "  interrupted  Raise KeyboardInterrupt.\n" in output
    assert "  theirs       Not available: no_such_package is not installed.\n" in output


def test_help_of_commands_loads_nothing_heavy() -> None:
    """It loads neither torch nor ONNX Runtime."""
    commands = ["serve", "extract", "suggest", "explore", "generate", "health", "train", "demo", "data", "figures"]
    program = f"for name in {[*commands, 'reproduce']}: main([name, '--help'], standalone_mode=False)"
    assert loaded_after(f"from partedvae.cli.main import main\n{program}") == set()


def test_the_error_for_an_unknown_command_suggests_the_nearest() -> None:
    """Exit code 2 and the nearest name."""
    result = CliRunner().invoke(main, ["exrtact", "images"])

    assert result.exit_code == 2
    assert "no command 'exrtact'; did you mean 'extract'?" in result.output


def test_the_error_for_a_command_unlike_any_lists_all() -> None:
    """Exit code 2 and all names."""
    result = CliRunner().invoke(main, ["xyzzy"])

    assert result.exit_code == 2
    assert "no command 'xyzzy'; the commands are classify, compare, data, demo, describe," in result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments", "package"),
    [
        ("torch", ["train", "mnist"], "partedvae[train]"),
        ("onnxruntime", ["serve", "."], "partedvae[serve]"),
        ("pyarrow", ["extract", ".", "--output", "x.npz", "--model", "."], "partedvae[serve]"),
        ("nicegui", ["explore", "--label", "."], "partedvae[explore]"),
        ("matplotlib", ["compare", ".", "--output", "x.png"], "partedvae[train]"),
        ("PIL", ["generate", "--output", "x.png"], "partedvae[images]"),
        ("pyarrow", ["demo"], "partedvae[train,serve]"),
        ("grpc_health", ["health"], "partedvae[serve]"),
        ("grpc", ["models"], "partedvae"),
    ],
)
def test_a_missing_extra_is_named(module: str, arguments: list[str], package: str, tmp_path: Path) -> None:
    """The error has the extra to install; there is no traceback."""
    program = [sys.executable, "-c", WITHOUT.format(module=module), *arguments]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {arguments[0]!r} needs {module}, which is not installed; install it with: pip install '{package}'\n"
    )


@pytest.mark.usefixtures("odd_commands")
def test_a_missing_extra_of_the_module_is_named() -> None:
    """Also where the module of the command cannot be imported."""
    result = CliRunner().invoke(main, ["theirs"])

    assert result.exit_code == 1
    assert result.output.startswith("Error: 'theirs' needs no_such_package, which is not installed")


@pytest.mark.usefixtures("odd_commands")
def test_a_missing_module_of_partedvae_is_a_bug() -> None:
    """It keeps its traceback."""
    result = CliRunner().invoke(main, ["ours"])

    assert isinstance(result.exception, ModuleNotFoundError)
    assert result.exception.name == "partedvae.serving.no_such_module"


@pytest.mark.usefixtures("odd_commands")
def test_an_interrupt_has_exit_code_130() -> None:
    """Ctrl-C ends a command with exit code 130 and no message."""
    result = CliRunner().invoke(main, ["interrupted"])

    assert result.exit_code == 130
    assert result.output.strip() == ""


@pytest.mark.slow
def test_a_real_interrupt_leaves_no_traceback() -> None:
    """SIGINT while a command waits for a server ends the process with exit code 130 and no message."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        program = [sys.executable, "-m", "partedvae", "models", "--server", address]
        with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
            client, _ = silent.accept()
            with client:
                process.send_signal(signal.SIGINT)
                assert process.wait(PATIENCE) == 130
            assert process.stderr is not None
            assert process.stderr.read().strip() == ""


def test_a_closed_pipe_is_not_an_error(server: ServerProcess) -> None:
    """Output into a pipe without a reader ends without a message."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    program = [sys.executable, "-m", "partedvae", "models", "--server", server.address]
    done = subprocess.run(program, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)

    assert done.stderr == ""
    assert done.returncode == 1
