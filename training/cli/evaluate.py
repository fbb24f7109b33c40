"""The command `partedvae evaluate`. It imports PyTorch when it runs, so that --help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from partedvae.common.click_paths import LocalPath
from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import (
    data_option,
    dataset_option,
    device_option,
    existing_run,
    limit_openmp_spinning,
    threads_option,
)

if TYPE_CHECKING:
    from partedvae.training.evaluation.metrics.dci import Predictor


@click.command(cls=ErrorReportingCommand)
@click.argument("run_dir", type=LocalPath(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--predictions",
    type=LocalPath(path_type=Path, dir_okay=False),
    help="Also write the predicted class of every test image to this .npz file.",
)
@click.option(
    "--truth-images",
    type=click.IntRange(min=0),
    default=40_000,
    show_default=True,
    help="Number of images for the disentanglement scores, where the true factors are known; 0 uses all.",
)
@click.option(
    "--dci",
    type=click.Choice(["forest", "boosting"]),
    default="forest",
    show_default=True,
    help="Importances of the DCI scores. forest: random forests, seconds. boosting: gradient boosting as in "
    "disentanglement_lib, minutes; only its scores can be compared with published ones.",
)
@dataset_option
@data_option
@device_option
@threads_option
def evaluate(
    run_dir: Path,
    as_json: bool,
    predictions: Path | None,
    truth_images: int,
    dci: Predictor,
    dataset: str | None,
    data_dir: Path,
    device: str,
    threads: int | None,
) -> None:
    """Evaluate a run: accuracy, what decoded images show, probes of u and z, disentanglement scores.

    An oracle, a classifier trained once on all labels of the data set and stored beside it, judges decoded images. With
    few labelled test images, probes are cross-validated on training images too. The scores need a data set whose true
    factors are known. The measures are added to the summary of the run, from which 'partedvae export' takes them.
    """
    limit_openmp_spinning()
    run = existing_run(run_dir)
    from partedvae.training.engine.device import choose_device

    chosen = choose_device(device)
    from partedvae.training.engine.threads import use_threads
    from partedvae.training.reports.evaluation import evaluate_run, record_measures, write_predictions

    use_threads(threads)
    report = evaluate_run(run_dir, data_dir, truth_images, dci, dataset, chosen)
    # Printed first, so that minutes of measurement are not lost when the predictions cannot be written.
    click.echo(report.to_json() if as_json else report.to_text())
    try:
        record_measures(run, report)
    except OSError as error:
        click.echo(f"the measures are not added to the run: {error}", err=True)
    if predictions is not None:
        try:
            write_predictions(predictions, report.evaluation)
        except OSError as error:
            raise click.ClickException(
                f"--predictions {predictions} cannot be written: {error}; choose a file in a writable folder"
            ) from error
