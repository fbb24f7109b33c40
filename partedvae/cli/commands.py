"""The commands that ask a server: `models`, `classify` and `generate`.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partedvae.cli.connection import Connection, connected, connection_options
from partedvae.common import DEFAULT_ADDRESS

if TYPE_CHECKING:
    from partedvae.image_results import Generated


def _check_picture(context: click.Context, parameter: click.Parameter, output: Path) -> Path:
    """Refuse a file name that no picture can have, before the server works for it."""
    from PIL import Image

    if Image.registered_extensions().get(output.suffix.lower()) not in Image.SAVE:
        raise click.UsageError(f"--output {str(output)!r} is no picture's name; let it end in .png")
    return output


server_options = connection_options(default_server=DEFAULT_ADDRESS)
model_option = click.option("--model", metavar="NAME", default="", help="Model to ask, if the server has several.")
output_option = click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_check_picture,
    help="Picture to write.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")


@click.command()
@server_options
@json_option
def models(connection: Connection, as_json: bool) -> None:
    """List the models of a server."""
    with connected(connection) as client:
        entries = []
        for info in client.models():
            entry: dict[str, Any] = {
                "name": info.name,
                "version": info.version,
                "ready": info.ready,
                "reason": info.reason,
                "is_default": info.is_default,
            }
            if info.is_default:  # asking for another would make the server load it
                details = client.model_info(info.name, info.version)
                training = details.manifest.training
                entry |= {
                    "dataset": training.dataset,
                    "recipe": training.recipe,
                    "labels_used": training.labels_used,
                    "factors": {factor.name: list(factor.class_names) for factor in details.manifest.factors},
                    "execution_provider": details.execution_provider,
                }
            entries.append(entry)
    if as_json:
        click.echo(json.dumps({"server": connection.server, "models": entries}, indent=2))
    elif not entries:
        click.echo(
            f"the server at {connection.server} has no models; "
            "put one there with 'partedvae export RUN MODELS_DIR/NAME'"
        )
    else:
        rows = [
            (
                entry["name"],
                f"{entry['version']}{' (default)' if entry['is_default'] else ''}",
                "ready" if entry["ready"] else "broken",
                entry.get("dataset", ""),
                entry.get("labels_used", ""),
                ", ".join(f"{name} ({len(classes)})" for name, classes in entry.get("factors", {}).items()),
            )
            for entry in entries
        ]
        click.echo(_table(("MODEL", "VERSION", "STATE", "DATA SET", "LABELS", "FACTORS (CLASSES)"), rows))
        for entry in entries:
            if entry["reason"]:
                click.echo(f"\n{entry['name']} version {entry['version']} is broken: {entry['reason']}")


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@server_options
@model_option
@json_option
def classify(images: Sequence[str], connection: Connection, model: str, as_json: bool) -> None:
    """Tell the class of image files.

    PNG, JPEG or WebP of any size. 'partedvae extract' takes whole folders.
    """
    with connected(connection, model) as client:
        result = client.classify(images)
    entries: list[dict[str, Any]] = []
    for i, image in enumerate(images):
        factors: dict[str, dict[str, Any]] = {}
        for factor in result:
            assert factor.probs is not None
            probs = [float(p) for p in factor.probs[i]]
            factors[factor.name] = {
                "class": str(factor.classes[i]),
                "prob": max(probs),
                "probs": dict(zip(factor.class_names, probs, strict=True)),
            }
        entries.append({"image": image, "factors": factors})
    if as_json:
        click.echo(json.dumps({"model": result.model, "version": result.version, "images": entries}, indent=2))
        return
    names = [factor.name for factor in result]
    rows = [
        (entry["image"], *(text for name in names for text in _class_and_prob(entry["factors"][name])))
        for entry in entries
    ]
    click.echo(_table(("IMAGE", *(title for name in names for title in (name.upper(), "PROB"))), rows))


@click.command()
@click.option("--class", "classes", metavar="[FACTOR=]NAME", multiple=True, help="Class to draw; repeat for more rows.")
@click.option("--each-class", is_flag=True, help="A row for each class of the first factor.")
@click.option("--count", type=click.IntRange(min=1), default=8, show_default=True, help="Images in a row, or in all.")
@click.option("--seed", type=click.IntRange(min=0), help="The same seed gives the same images.")
@output_option
@server_options
@model_option
def generate(
    classes: Sequence[str],
    each_class: bool,
    count: int,
    seed: int | None,
    output: Path,
    connection: Connection,
    model: str,
) -> None:
    """Draw new images into a labelled grid.

    A row for each --class, or for each class with --each-class; a column shares its z, so that one style runs down
    the column. Without either, --count images with classes from p(c).
    """
    from partedvae.names import class_by_factor

    if classes and each_class:
        raise click.UsageError("--class and --each-class do not go together; take one")
    with connected(connection, model) as client:
        manifest = client.model_info().manifest
        wanted: list[Mapping[str, str]] = [class_by_factor(manifest, text) for text in classes]
        if each_class:
            first = manifest.factors[0]
            wanted = [{first.name: name} for name in first.class_names]
        pictures = []
        for chosen in wanted or [{}]:
            pictures.append(client.generate(count, classes=chosen, seed=seed))
            seed = pictures[-1].seed  # the rows share a seed, also where the server drew it
        _draw(pictures, wanted, output)
    click.echo(f"{count * len(pictures)} images -> {output} (seed {seed})")


def _draw(pictures: Sequence[Generated], wanted: Sequence[Mapping[str, str]], output: Path) -> None:
    """Write the grid: a row for each wanted class, or captioned images where none was wanted."""
    from partedvae.grid import Row, labelled_grid, save_picture, wrapped

    first = pictures[0]
    several = len(first.classes) > 1
    if wanted:
        labels = [", ".join(f"{f}={c}" if several else c for f, c in chosen.items()) for chosen in wanted]
        rows = [Row(images=p.images, label=label) for p, label in zip(pictures, labels, strict=True)]
    else:
        names = [[f"{f}={c}" if several else str(c) for c in classes] for f, classes in first.classes.items()]
        rows = wrapped(first.images, [", ".join(caption) for caption in zip(*names, strict=True)])
    grid = labelled_grid(rows, f"{first.model} version {first.version}, seed {first.seed}")
    save_picture(grid, output)


def _class_and_prob(factor: Mapping[str, Any]) -> tuple[str, str]:
    return factor["class"], f"{factor['prob']:.4f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Align columns by spaces."""
    lines = [header, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
