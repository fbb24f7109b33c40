"""The command `partedvae export`. It imports PyTorch when it runs, so that --help is fast."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

import click

from partedvae.common.click_paths import LocalPath
from partedvae.common.runs.nearby import CONFIG_FILE
from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import data_option, dataset_option, existing_run


@click.command(cls=ErrorReportingCommand)
@click.argument("run_dir", type=LocalPath(path_type=Path))
@click.argument("model_folder", metavar="MODELS_DIR/NAME", type=LocalPath(path_type=Path, file_okay=False))
@dataset_option
@data_option
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="int8 adds an encoder of 8-bit integers, for 'partedvae serve --precision int8'; the export fails if that "
    "loses more than 0.1 percentage points of accuracy on test images.",
)
def export(
    run_dir: Path, model_folder: Path, dataset: str | None, data_dir: Path, precision: Literal["fp32", "int8"]
) -> None:
    """Export a run to ONNX as the next version of a served model.

    The bundle is written to MODELS_DIR/NAME/VERSION, and 'partedvae serve MODELS_DIR' serves it. It appears only after
    its ONNX graphs have reproduced the outputs of PyTorch on test images.
    """
    if not (model_folder / CONFIG_FILE).is_file():  # Otherwise both are swapped, which the exporter says.
        existing_run(run_dir)
    from partedvae.export.exporter import export_run

    bundle = export_run(run_dir, model_folder, data_dir, dataset, precision)
    scores = ", ".join(f"{name} {value:.4g}" for name, value in sorted(bundle.manifest.scores.items()))
    click.echo(f"{bundle.folder}: {scores}, parity within {bundle.manifest.parity_max_difference:.1e}")
    if bundle.manifest.HasField("int8_encoder"):
        int8 = bundle.manifest.int8_encoder
        parts = [f"accuracy/{name} {value:.4g}" for name, value in sorted(int8.accuracies.items())]
        parts += [f"same class/{name} {value:.4g}" for name, value in sorted(int8.agreements.items())]
        difference = max(int8.relative_differences.values())
        click.echo(f"int8: {', '.join(parts)}, outputs differ by at most {difference:.2g} standard deviations")
    for warning in bundle.manifest.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    click.echo(f"next: {shlex.join(['partedvae', 'serve', str(model_folder.parent)])}")
