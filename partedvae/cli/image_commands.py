"""The commands that draw the effect of latents: `traverse` and `transfer`.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from partedvae.cli.commands import model_option, output_option, server_options
from partedvae.cli.connection import Connection
from partedvae.common.click_errors import click_errors
from partedvae.errors import PartedVAEError

if TYPE_CHECKING:
    from partedvae.requests import Along

_FILE = click.Path(exists=True, dir_okay=False)


@click.command()
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=_FILE)
@click.option("--along", type=click.Choice(["z", "u", "classes"]), default="z", show_default=True, help="What changes.")
@click.option(
    "--dim",
    "dimensions",
    metavar="N",
    type=click.IntRange(min=0),
    multiple=True,
    help="Dimension of z or u; may be repeated.  [default: all]",
)
@click.option("--factor", default="", metavar="NAME", help="Factor of u or classes, if the model has several.")
@click.option("--steps", metavar="N", type=click.IntRange(2, 64), help="Columns for z and u.  [default: 9]")
@click.option(
    "--reach",
    metavar="X",
    type=click.FloatRange(0, 10, min_open=True),
    help="Range to either side, in standard deviations.  [default: 2.5]",
)
@click.option("--class", "class_name", metavar="[FACTOR=]NAME", help="Without images: class to draw.")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), help="Without images: seed of the draw.")
@output_option
@server_options
@model_option
@click_errors(PartedVAEError, OSError)
def traverse(
    images: Sequence[str],
    along: Along,
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
    """Draw images along one latent dimension, or along the classes.

    In each row one dimension of z or u, or the class, changes and everything else stays. Rows start from each IMAGE, or
    from one draw of the priors. u and z go from low to high in standard deviations of the prior.
    """
    from partedvae.grid import save_picture
    from partedvae.results import plural

    with connection.client(model) as client:
        traversal = client.traverse(
            list(images) or None,
            along=along,
            dimensions=dimensions,
            factor=factor,
            steps=steps,
            reach=reach,
            classes=class_name,
            seed=seed,
        )
    save_picture(traversal.to_pil([Path(image).name for image in images]), output)
    click.echo(f"{plural(len(traversal.rows), 'row')} of {plural(traversal.images.shape[1], 'image')} -> {output}")


@click.command()
@click.argument("content", metavar="CONTENT...", nargs=-1, required=True, type=_FILE)
@click.option("--style", "styles", type=_FILE, multiple=True, metavar="IMAGE", help="Image for u; may be repeated.")
@click.option("--class", "classes", multiple=True, metavar="[FACTOR=]NAME", help="Class for u; may be repeated.")
@click.option(
    "--factor", "factors", multiple=True, metavar="NAME", help="Factor to transfer from --style.  [default: all]"
)
@output_option
@server_options
@model_option
@click_errors(PartedVAEError, OSError)
def transfer(
    content: Sequence[str],
    styles: Sequence[str],
    classes: Sequence[str],
    factors: Sequence[str],
    output: Path,
    connection: Connection,
    model: str,
) -> None:
    """Draw images with the class-related features of others.

    Combines the z of each CONTENT image with the u of each --style image, or of each --class: one row per CONTENT, one
    column per --style or --class.
    """
    from partedvae.grid import save_picture
    from partedvae.results import plural

    if bool(styles) == bool(classes):
        raise click.UsageError("give either --style images or --class names, from which u is taken")
    with connection.client(model) as client:
        result = client.transfer(
            list(content), list(styles) or None, classes=list(classes) or None, factors=list(factors)
        )
    contents = [Path(name).name for name in content]
    save_picture(result.to_pil(contents, [Path(style).name for style in styles] or classes), output)
    click.echo(f"{plural(len(contents), 'row')} of {plural(result.images.shape[1], 'image')} -> {output}")
