import os
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from partedvae.cli.main import GROUP, main
from tests.partedvae.test_package import loaded_after
from tests.processes import ServerProcess, wait_until

WITHOUT = "import sys; sys.modules[{module!r}] = None; from partedvae.cli.main import main; main(prog_name='partedvae')"
"""A program like `partedvae` for a Python that lacks a module."""


@click.command()
def interrupted() -> None:
    """Be interrupted at once."""
    raise KeyboardInterrupt


@pytest.fixture
def odd_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command subcommands that do not exist."""
    values = {
        "interrupted": "tests.partedvae.cli.test_main:interrupted",
        "ours": "partedvae.serving.no_such_module:ours [serve]",
        "theirs": "no_such_package.cli:theirs [serve]",
    }
    entry_points = {name: EntryPoint(name=name, value=value, group=GROUP) for name, value in values.items()}
    monkeypatch.setitem(main.__dict__, "entry_points", entry_points)


def test_help_lists_all_commands_and_loads_nothing_heavy() -> None:
    """`partedvae --help` knows every command without loading what they need."""
    listing = CliRunner().invoke(main, ["--help"])

    assert listing.exit_code == 0
    commands = [line.split()[0] for line in listing.output.partition("Commands:\n")[2].splitlines()]
    assert commands == [
        "classify", "data", "demo", "describe", "evaluate", "export", "extract", "figures", "generate", "health",
        "models", "reproduce", "serve", "train", "transfer", "traverse",
    ]  # fmt: skip
    assert loaded_after("from partedvae.cli.main import main; main(['--help'], standalone_mode=False)") == set()


@pytest.mark.parametrize(
    "command", ["serve", "extract", "generate", "health", "train", "demo", "data", "figures", "reproduce"]
)
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    """The help of one command loads neither torch nor ONNX Runtime."""
    assert (
        loaded_after(f"from partedvae.cli.main import main; main([{command!r}, '--help'], standalone_mode=False)")
        == set()
    )


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    """A typing error ends with exit code 2 and the name that was meant."""
    result = CliRunner().invoke(main, ["exrtact", "images"])

    assert result.exit_code == 2
    assert "no command 'exrtact'; did you mean 'extract'?" in result.output


def test_a_command_unlike_any_is_answered_with_all() -> None:
    """Where nothing is near, all names are told."""
    result = CliRunner().invoke(main, ["xyzzy"])

    assert result.exit_code == 2
    assert "no command 'xyzzy'; the commands are classify, data, demo, describe," in result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments", "package"),
    [
        # Whatever of the extra is loaded first: in an environment without the extra that is another package than torch.
        ("jaxtyping", ["train", "mnist"], "partedvae[train]"),
        ("onnxruntime", ["serve", "."], "partedvae[serve]"),
        ("pyarrow", ["extract", ".", "--output", "x.npz", "--model", "."], "partedvae[serve]"),
        ("PIL", ["generate", "--output", "x.png"], "partedvae[images]"),
        ("pyarrow", ["demo"], "partedvae[train,serve]"),
        ("grpc", ["models"], "partedvae"),
    ],
)
def test_a_missing_extra_is_named(module: str, arguments: list[str], package: str, tmp_path: Path) -> None:
    """A command whose extra is not installed says which to install, without a traceback."""
    program = [sys.executable, "-c", WITHOUT.format(module=module), *arguments]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {arguments[0]!r} needs {module}, which is not installed; install it with: pip install '{package}'\n"
    )


@pytest.mark.usefixtures("odd_commands")
def test_a_package_that_a_command_loads_with_is_named() -> None:
    """The same holds where not even the command's module can be loaded."""
    result = CliRunner().invoke(main, ["theirs"])

    assert result.exit_code == 1
    assert result.output.startswith("Error: 'theirs' needs no_such_package, which is not installed")


@pytest.mark.usefixtures("odd_commands")
def test_a_missing_module_of_ours_is_not_taken_for_an_extra() -> None:
    """A fault of ours shows itself whole."""
    result = CliRunner().invoke(main, ["ours"])

    assert isinstance(result.exception, ModuleNotFoundError)
    assert result.exception.name == "partedvae.serving.no_such_module"


@pytest.mark.usefixtures("odd_commands")
def test_an_interrupt_ends_with_the_shells_code() -> None:
    """Ctrl-C ends a command with 130 and no more words than a newline."""
    result = CliRunner().invoke(main, ["interrupted"])

    assert result.exit_code == 130
    assert result.output.strip() == ""


@pytest.mark.slow
def test_a_real_interrupt_leaves_no_traceback(tmp_path: Path) -> None:
    """SIGINT while a command works ends the process with 130, quietly."""
    pipe = tmp_path / "input.npy"
    os.mkfifo(pipe)  # a command that reads it waits for ever
    program = [sys.executable, "-m", "partedvae", "extract", str(pipe), "--output", "x.npz", "--model", "."]
    with subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        with pipe.open("wb"):  # opens when the command has opened it to read
            process.send_signal(signal.SIGINT)
            wait_until(lambda: process.poll() is not None)
        assert process.stderr is not None
        assert process.stderr.read().strip() == ""
    assert process.returncode == 130


def test_a_reader_that_has_enough_is_no_error(server: ServerProcess) -> None:
    """Output into a pipe that nobody reads any more ends quietly."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    program = [sys.executable, "-m", "partedvae", "models", "--server", server.address]
    done = subprocess.run(program, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)

    assert done.stderr == ""
    assert done.returncode == 1
