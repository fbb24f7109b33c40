"""The command `partedvae figures`. It imports PyTorch when it runs, so that --help is fast."""

from __future__ import annotations

from pathlib import Path

import click

from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import data_option, limit_openmp_spinning, threads_option


@click.command(cls=ErrorReportingCommand)
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Output folder.  [default: RUN_DIR/figures]",
)
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
def figures(
    run_dir: Path, output: Path | None, data_dir: Path, threads: int | None, seed: int, only: tuple[str, ...]
) -> None:
    """Draw the paper's figures of a run, one PNG file per figure.

    Figures that do not apply to the run's method are skipped.

    \b
    traversal_z       each dimension of z from a few test images (Figures 4a, 4b, 6a)
    traversal_u       dimensions of u for each class (Figure 4c)
    transfer          attribute transfer: z of some images, u of others (Figure 5)
    factors           u of each factor over the range of its prior (Figures 6b, 8)
    prior_density     modes of the prior with images along them (Figures 7, 10)
    class_traversals  each dimension of z for each class (Figure 9)
    reconstructions   test images and their reconstructions
    prior_samples     samples from the priors, for each class
    losses            training curves
    embedding         u and z of the test images, coloured by class
    """  # noqa: D301 - the escape tells click to keep the lines as they are
    limit_openmp_spinning()
    from partedvae.training.engine.threads import use_threads
    from partedvae.training.figures.registry import draw_run

    use_threads(threads)
    for path in draw_run(run_dir, output, data_dir, seed=seed, only=only):
        click.echo(path)
