"""Options that are paths refuse URLs."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from partedvae.common.click_paths import LocalPath


@click.command()
@click.argument("path", type=LocalPath(path_type=Path))
def command(path: Path) -> None:
    """Print a path."""
    click.echo(path)


@pytest.mark.parametrize("url", ["s3://bucket/f.npz", "gs://bucket/f.parquet", "https://host/x", "file:/tmp/x"])
def test_a_url_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, [url])
    assert result.exit_code == 2
    assert f"{url!r} is a URL; only local paths are supported: copy the file" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["f.npz", "/data/f.npz", "C:/data/f.npz", "a:b", "folder:x/y"])
def test_a_local_path_is_accepted(path: str) -> None:
    result = CliRunner().invoke(command, [path])
    assert (result.exit_code, result.output) == (0, f"{path}\n")
