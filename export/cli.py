"""The command `partedvae export`. It imports PyTorch when it runs, so that --help is fast."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from partedvae.common.click_paths import LocalPath
from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import data_option, dataset_option


@click.command(cls=ErrorReportingCommand)
@click.argument("run_dir", type=LocalPath(path_type=Path))
@click.argument("model_folder", metavar="MODELS_DIR/NAME", type=LocalPath(path_type=Path, file_okay=False))
@dataset_option
@data_option
def export(run_dir: Path, model_folder: Path, dataset: str | None, data_dir: Path) -> None:
    """Export a run to ONNX as the next version of a served model.

    The bundle is written to MODELS_DIR/NAME/VERSION, and 'partedvae serve MODELS_DIR' serves it. It appears only after
    its ONNX graphs have reproduced the outputs of PyTorch on test images.
    """
    from partedvae.export.exporter import export_run

    bundle = export_run(run_dir, model_folder, data_dir, dataset)
    scores = ", ".join(f"{name} {value:.4g}" for name, value in sorted(bundle.manifest.scores.items()))
    click.echo(f"{bundle.folder}: {scores}, parity within {bundle.manifest.parity_max_difference:.1e}")
    for warning in bundle.manifest.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    click.echo(f"next: {shlex.join(['partedvae', 'serve', str(model_folder.parent)])}")
