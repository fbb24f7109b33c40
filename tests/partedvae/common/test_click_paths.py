"""Paths of commands are local: a URL is refused before a folder named after its scheme is made."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from partedvae.common.click_paths import LocalPath


@click.command()
@click.option("--output", type=LocalPath(path_type=Path))
def command(output: Path) -> None:
    click.echo(repr(output))


@pytest.mark.parametrize(
    "url", ["s3://bucket/f.npz", "s3:/bucket/f.npz", "gs://b", "file:///tmp/f", "abfss://c@a.net/f", "HTTPS://host/f"]
)
def test_a_url_is_refused_with_the_option_and_the_remedy(url: str) -> None:
    result = CliRunner().invoke(command, ["--output", url])
    assert result.exit_code == 2
    assert f"Invalid value for '--output': '{url}' is a URL" in result.stderr
    assert "copy the file with the tool of the storage, or mount it" in result.stderr


@pytest.mark.parametrize("path", ["runs/f.npz", "/tmp/f", "C:/data/f.npz", "./s3:/f", "a:b", "day 1: photos"])
def test_a_local_path_is_accepted(path: str) -> None:
    result = CliRunner().invoke(command, ["--output", path])
    assert result.output == f"{Path(path)!r}\n"


@pytest.mark.parametrize("path", ["", " ", "\t\n"])
def test_an_empty_path_is_not_the_current_folder(path: str) -> None:
    result = CliRunner().invoke(command, ["--output", path])
    assert result.exit_code == 2
    assert "Invalid value for '--output': the path is empty; the current folder is '.'" in result.stderr
