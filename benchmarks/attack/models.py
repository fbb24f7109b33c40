"""The models of the attacked server."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from benchmarks.attack.server import copy_model
from partedvae.serving.bundle_files import versions_of


def write_models(source: Path, served: Path) -> None:
    """Write copies of the newest version of a model, or of a tiny untrained one.

    Args:
        source: folder of the versions of a model; may be missing.
        served: folder of models to write.
    """
    versions = versions_of(source)
    if versions:
        copy_model(source / str(versions[-1]), served)
        return
    from tests.bundles import GREY

    click.echo(f"{source} contains no version of a model: attacking a server of a tiny untrained one", err=True)
    with tempfile.TemporaryDirectory() as folder:
        copy_model(GREY.write(Path(folder, "tiny")).folder, served)
