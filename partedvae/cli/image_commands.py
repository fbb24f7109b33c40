"""The commands that draw what latents mean: `traverse` and `transfer`.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from partedvae.cli.commands import model_option, output_option, server_options
from partedvae.cli.connection import Connection, connected

if TYPE_CHECKING:
    from partedvae.image_results import Traversal

_FILE = click.Path(exists=True, dir_okay=False)


@click.command()
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=_FILE)
@click.option("--along", type=click.Choice(["z", "u", "classes"]), default="z", show_default=True, help="What changes.")
@click.option(
    "--dim", "dimensions", type=click.IntRange(min=0), multiple=True, help="Dimension; repeat. [default: all]"
)
@click.option("--factor", default="", metavar="NAME", help="Whose u or classes, if the model has several factors.")
@click.option("--steps", type=click.IntRange(2, 64), help="Columns of z and u.  [default: 9]")
@click.option(
    "--reach", type=click.FloatRange(0, 10, min_open=True), help="Standard deviations to either side.  [default: 2.5]"
)
@click.option("--class", "class_name", metavar="[FACTOR=]NAME", help="Without images: the class to draw.")
@click.option("--seed", type=click.IntRange(min=0), help="Without images: the same seed gives the same picture.")
@output_option
@server_options
@model_option
def traverse(
    images: Sequence[str],
    along: str,
    dimensions: Sequence[int],
    factor: str,
    steps: int | None,
    reach: float | None,
    class_name: str | None,
    seed: int | None,
    output: Path,
    connection: Connection,
    model: str,
) -> None:
    """Draw rows in which one latent dimension, or the class, changes and all else stays.

    It starts from each IMAGE, or from one draw of the priors. u and z go from low to high in standard deviations of the
    prior.
    """
    from typing import cast

    from partedvae.grid import Row, labelled_grid, save_picture
    from partedvae.latent_requests import Along

    with connected(connection, model) as client:
        traversal = client.traverse(
            list(images) or None,
            along=cast("Along", along),
            dimensions=dimensions,
            factor=factor,
            steps=steps,
            reach=reach,
            classes=class_name,
            seed=seed,
        )
        labels = _labels(traversal, images, along)
        rows = [
            Row(images=row, label=label, captions=traversal.class_names)
            for row, label in zip(traversal.images, labels, strict=True)
        ]
        drawn = "" if traversal.seed is None else f", seed {traversal.seed}"
        save_picture(labelled_grid(rows, f"{traversal.model} version {traversal.version}{drawn}"), output)
    click.echo(f"{len(rows)} rows of {traversal.images.shape[1]} images -> {output}")


@click.command()
@click.argument("content", metavar="CONTENT...", nargs=-1, required=True, type=_FILE)
@click.option("--style", "styles", type=_FILE, multiple=True, metavar="IMAGE", help="Image that gives u; repeat.")
@click.option("--class", "classes", multiple=True, metavar="[FACTOR=]NAME", help="Or class that gives u; repeat.")
@click.option("--factor", "factors", multiple=True, metavar="NAME", help="Factor to take from --style. [default: all]")
@output_option
@server_options
@model_option
def transfer(
    content: Sequence[str],
    styles: Sequence[str],
    classes: Sequence[str],
    factors: Sequence[str],
    output: Path,
    connection: Connection,
    model: str,
) -> None:
    """Draw each CONTENT image as another class: its z with the u of a --style image, or of a --class.

    A row for each CONTENT, a column for each --style or --class.
    """
    from partedvae.grid import Row, labelled_grid, save_picture

    if bool(styles) == bool(classes):
        raise click.UsageError("give either --style images or --class names: one of them is what u comes from")
    with connected(connection, model) as client:
        result = client.transfer(
            list(content), list(styles) or None, classes=list(classes) or None, factors=list(factors)
        )
        captions = [Path(style).name for style in styles] or classes
        rows = [
            Row(images=row, label=Path(name).name, captions=captions)
            for row, name in zip(result.images, content, strict=True)
        ]
        save_picture(labelled_grid(rows, f"{result.model} version {result.version}"), output)
    click.echo(f"{len(rows)} rows of {result.images.shape[1]} images -> {output}")


def _labels(traversal: Traversal, images: Sequence[str], along: str) -> list[str]:
    """Name each row by its image, or its class where it was drawn, and by its dimension."""
    bases = [Path(image).name for image in images]
    if not bases:
        bases = [", ".join(map(str, names)) for names in zip(*traversal.classes.values(), strict=True)]
    dimensions = ["" if row.dimension is None else f" {along}{row.dimension}" for row in traversal.rows]
    return [bases[row.base] + dimension for row, dimension in zip(traversal.rows, dimensions, strict=True)]
