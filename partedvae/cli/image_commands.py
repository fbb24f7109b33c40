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
from partedvae.common.click_numbers import FiniteFloatRange
from partedvae.common.click_paths import LocalPath
from partedvae.errors import PartedVAEError

if TYPE_CHECKING:
    from partedvae.requests import Along

_FILE = LocalPath(exists=True, dir_okay=False)


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
    type=FiniteFloatRange(0, 10, min_open=True),
    help="Range to either side, in standard deviations.  [default: 2.5]",
)
@click.option(
    "--class",
    "classes",
    metavar="[FACTOR=]NAME",
    multiple=True,
    help="Without images: class to draw; repeat it to combine classes of different factors.",
)
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
    classes: Sequence[str],
    seed: int | None,
    output: Path,
    connection: Connection,
    model_name: str,
    model_version: int,
) -> None:
    """Draw images along one latent dimension, or along the classes.

    In each row one dimension of z or u, or the class, changes and everything else stays. Rows start from each IMAGE, or
    from one draw of the priors. u and z go from low to high in standard deviations of the prior.
    """
    from partedvae.grid import save_picture
    from partedvae.results import plural

    if images and (classes or seed is not None):
        raise click.UsageError("--class and --seed draw an image, and cannot be used with IMAGE; leave one of them out")
    if along == "z" and factor:
        raise click.UsageError("--factor cannot be used with --along z: z belongs to no factor")
    if along == "classes" and (dimensions or steps is not None or reach is not None):
        raise click.UsageError(
            "--dim, --steps and --reach cannot be used with --along classes, where each column is a class"
        )
    with connection.client(model_name, model_version) as client:
        traversal = client.traverse(
            list(images) or None,
            along=along,
            dimensions=dimensions,
            factor=factor,
            steps=steps,
            reach=reach,
            classes=classes or None,
            seed=seed,
        )
    save_picture(traversal.to_pil([Path(image).name for image in images]), output)
    click.echo(f"{plural(len(traversal.rows), 'row')} of {plural(traversal.images.shape[1], 'image')} -> {output}")


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=_FILE)
@click.option(
    "--u-image", "u_images", type=_FILE, multiple=True, metavar="IMAGE", help="Image that gives u; may be repeated."
)
@click.option("--style", "former_u_images", type=_FILE, multiple=True, hidden=True, help="Former name of --u-image.")
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="[FACTOR=]NAME",
    help="Class that gives u. Repeat it for more rows, or with a class of another factor to combine them in each row.",
)
@click.option(
    "--factor", "factors", multiple=True, metavar="NAME", help="Factor whose u is that of --u-image.  [default: all]"
)
@output_option
@server_options
@model_option
@click_errors(PartedVAEError, OSError)
def transfer(
    images: Sequence[str],
    u_images: Sequence[str],
    former_u_images: Sequence[str],
    classes: Sequence[str],
    factors: Sequence[str],
    output: Path,
    connection: Connection,
    model_name: str,
    model_version: int,
) -> None:
    """Draw images of a class in the style of others.

    Combines the u of each --u-image, or of each --class, with the z (the style) of each IMAGE, as in Figure 5 of the
    paper: one row per --u-image or --class, one column per IMAGE. Classes of different factors are combined, as in
    'partedvae generate'.
    """
    from partedvae.class_choices import class_combinations, class_label
    from partedvae.grid import save_picture
    from partedvae.results import plural

    u_images = [*u_images, *former_u_images]
    if bool(u_images) == bool(classes):
        raise click.UsageError("give either --u-image images or --class names, from which u is taken")
    if classes and factors:
        raise click.UsageError("--factor cannot be used with --class, which names its factor; leave --factor out")
    with connection.client(model_name, model_version) as client:
        rows, chosen = [Path(name).name for name in u_images], None
        if classes:
            manifest = client.model_info().manifest
            chosen = class_combinations(classes, manifest)
            rows = [class_label(combination, manifest) for combination in chosen]
        result = client.transfer(
            z_images=list(images), u_images=u_images or None, classes=chosen, factors=list(factors)
        )
    save_picture(result.to_pil(rows, [Path(name).name for name in images]), output)
    click.echo(f"{plural(len(rows), 'row')} of {plural(result.images.shape[1], 'image')} -> {output}")
