"""The command that draws a run's figures. What it needs is imported inside it, so that asking for help is fast."""

from __future__ import annotations

from pathlib import Path

import click

from partedvae.training.cli.train import data_option


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to.  [default: RUN_DIR/figures]",
)
@data_option
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the test images shown and of the samples drawn."
)
@click.option("--only", multiple=True, metavar="NAME", help="Draw only this figure; may be given several times.")
def figures(run_dir: Path, output: Path | None, data_dir: Path, seed: int, only: tuple[str, ...]) -> None:
    """Draw the paper's figures from a run: one PNG each.

    \b
    traversal_z       each dimension of z on some images (Figures 4a, 4b, 6a)
    traversal_u       dimensions of u for each class (Figure 4c)
    transfer          attribute transfer: z of some images in others (Figure 5)
    factors           u of each factor over its prior (Figures 6b, 8)
    prior_density     modes of the prior with images along them (Figures 7, 10)
    class_traversals  each dimension of z for each class (Figure 9)
    reconstructions   test images and what the decoder makes of them
    prior_samples     images drawn from the priors, for each class
    losses            training curves
    embedding         u and z of the test images, coloured by class
    """  # noqa: D301 - the escape tells click to keep the lines as they are
    from partedvae.training.figures.registry import draw_run

    try:
        for path in draw_run(run_dir, output, data_dir, seed=seed, only=only):
            click.echo(path)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
