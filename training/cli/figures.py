"""The command `partedvae figures`. It imports PyTorch when it runs, so that --help is fast."""

from __future__ import annotations

from pathlib import Path

import click

from partedvae.common.click_paths import LocalPath
from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import (
    data_option,
    dataset_option,
    existing_run,
    limit_openmp_spinning,
    threads_option,
)


@click.command(cls=ErrorReportingCommand)
@click.argument("run_dir", type=LocalPath(path_type=Path))
@click.option(
    "--output",
    type=LocalPath(path_type=Path, file_okay=False),
    help="Output folder.  [default: RUN_DIR/figures]",
)
@dataset_option
@data_option
@threads_option
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Random seed of the choice of test images and of the samples from the priors.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Draw only this figure; repeatable.")
@click.option(
    "--without-bc",
    type=LocalPath(path_type=Path),
    metavar="RUN_DIR",
    help="Run of the same data set with --set objective.gamma_bc=0, which Figures 8 and 10 compare with.",
)
def figures(
    run_dir: Path,
    output: Path | None,
    dataset: str | None,
    data_dir: Path,
    threads: int | None,
    seed: int,
    only: tuple[str, ...],
    without_bc: Path | None,
) -> None:
    """Draw the paper's figures of a run, one PNG file per figure.

    Figures that do not apply to the run's method are skipped, and so are those of two runs without --without-bc.

    \b
    traversal_z       each dimension of z from a few test images (Figures 4a, 4b, 6a)
    traversal_u       dimensions of u for each class (Figure 4c)
    transfer          attribute transfer: rows keep class and u, columns give z (Figure 5)
    factors           u of each factor over the range of its prior (Figure 6b)
    prior_density     modes of the prior with images along them (Figure 7)
    bc_factors        factors of both runs side by side (Figure 8; --without-bc)
    bc_prior_density  prior_density of both runs side by side (Figure 10; --without-bc)
    class_traversals  each dimension of z for each class (Figure 9)
    reconstructions   test images and their reconstructions
    prior_samples     samples from the priors, for each class
    losses            training curves
    embedding         u and z of the test images, coloured by class
    """  # noqa: D301 - the escape tells click to keep the lines as they are
    limit_openmp_spinning()
    existing_run(run_dir)
    from partedvae.training.engine.threads import use_threads
    from partedvae.training.figures.registry import draw_run

    use_threads(threads)
    for path in draw_run(run_dir, output, data_dir, dataset=dataset, seed=seed, only=only, without_bc=without_bc):
        click.echo(path)
