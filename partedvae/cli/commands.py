"""The commands `models`, `classify` and `generate`, which call a server.

`partedvae --help` loads this module, so everything heavier than click is imported where it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partedvae.cli.connection import Connection, connection_options, model_options
from partedvae.common import DEFAULT_ADDRESS
from partedvae.common.click_errors import click_errors
from partedvae.common.click_paths import LocalPath
from partedvae.common.file_names import in_one_line, printable
from partedvae.common.text_tables import table_lines
from partedvae.errors import PartedVAEError

if TYPE_CHECKING:
    from partedvae.image_results import Generated


def _check_picture(context: click.Context, parameter: click.Parameter, output: Path) -> Path:
    """Check that Pillow can write a file of this name, before the server is called."""
    from PIL import Image

    if Image.registered_extensions().get(output.suffix.lower()) not in Image.SAVE:
        raise click.UsageError(f"--output {str(output)!r} has no suffix of an image format; use .png")
    return output


server_options = connection_options(default_server=DEFAULT_ADDRESS)
model_option = model_options("--model")
output_option = click.option(
    "--output",
    required=True,
    type=LocalPath(path_type=Path, dir_okay=False),
    callback=_check_picture,
    help="Picture to write.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.command()
@server_options
@json_option
@click_errors(PartedVAEError, OSError)
def models(connection: Connection, as_json: bool) -> None:
    """List the models of a server."""
    with connection.client() as client:
        entries = []
        for info in client.models():
            entry = info.to_dict()
            if info.is_default:  # Details of another version would make the server load it.
                entry |= client.model_info(info.name, info.version).to_dict()
            entries.append(entry)
    if as_json:
        click.echo(json.dumps({"server": connection.server, "models": entries}, indent=2))
    elif not entries:
        click.echo(
            f"the server at {connection.server} has no models; add one with 'partedvae export RUN MODELS_DIR/NAME'"
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
                _generated(entry),
            )
            for entry in entries
        ]
        header = ("MODEL", "VERSION", "STATE", "DATA SET", "LABELS", "FACTORS (CLASSES)", "GENERATION")
        click.echo("\n".join(table_lines([header, *rows])))
        for entry in entries:
            if entry["reason"]:
                click.echo(f"\n{entry['name']} version {entry['version']} is broken: {entry['reason']}")
            for warning in entry.get("warnings", []):
                click.echo(f"\nwarning: {entry['name']} version {entry['version']}: {warning}")


def _generated(entry: Mapping[str, Any]) -> str:
    """Return the share of drawn images that show their class, by factor; empty if it was not measured."""
    measures = entry.get("measures", {})
    shares = (measures.get(f"generation/{name}") for name in entry.get("factors", {}))
    return ", ".join(f"{share:.0%}" for share in shares if share is not None)


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=LocalPath(exists=True, dir_okay=False))
@server_options
@model_option
@json_option
@click_errors(PartedVAEError, OSError)
def classify(images: Sequence[str], connection: Connection, model_name: str, model_version: int, as_json: bool) -> None:
    """Print the class of image files.

    Files are PNG, JPEG, WebP, BMP, TIFF or GIF (HEIC with the extra "heic"), of any size. For whole folders use
    'partedvae extract'. A warning names images that are unlike the training images, if the model knows the range of its
    scores.
    """
    import warnings

    from partedvae.familiarity import UnfamiliarImageWarning

    with connection.client(model_name, model_version) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore", UnfamiliarImageWarning)  # Printed below, with the names of the files.
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
        entries.append({"image": printable(image), "factors": factors})
    if result.unfamiliar is not None:
        for entry, text in zip(entries, result.unfamiliar.tolist(), strict=True):
            entry["unfamiliar"] = text or None
            if text:
                click.secho(
                    f"warning: {in_one_line(entry['image'])} is {text}; its class may be wrong", fg="yellow", err=True
                )
    if as_json:
        click.echo(json.dumps({"model": result.model, "version": result.version, "images": entries}, indent=2))
        return
    names = [factor.name for factor in result]
    header = ["IMAGE", *(title for name in names for title in (name.upper(), "PROB"))]
    rows = [
        [in_one_line(entry["image"]), *(text for name in names for text in _class_and_prob(entry["factors"][name]))]
        for entry in entries
    ]
    if any(entry.get("unfamiliar") for entry in entries):
        header.append("UNFAMILIAR")
        for entry, row in zip(entries, rows, strict=True):
            row.append(entry["unfamiliar"] or "")
    click.echo("\n".join(table_lines([header, *rows])))


@click.command()
@click.option(
    "--class",
    "classes",
    metavar="[FACTOR=]NAME",
    multiple=True,
    help="Class to draw. Repeat it for more rows, or with a class of another factor to combine them in each image.",
)
@click.option("--each-class", is_flag=True, help="One row per class of the first factor.")
@click.option(
    "--count",
    metavar="N",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Images per row; without --class and --each-class, the total.",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), help="The same seed gives the same images.")
@output_option
@server_options
@model_option
@click_errors(PartedVAEError, OSError)
def generate(
    classes: Sequence[str],
    each_class: bool,
    count: int,
    seed: int | None,
    output: Path,
    connection: Connection,
    model_name: str,
    model_version: int,
) -> None:
    """Draw new images into a labelled grid.

    One row per --class, or per class with --each-class; the images of a column share their z, and hence their style.
    Without either, --count images with classes from p(c).

    Classes of different factors are combined: '--class shape=heart --class colour=red' is one row of red hearts, and
    with '--class shape=square' also one of red squares. Factors without --class are drawn from p(c).
    """
    from partedvae.class_choices import class_combinations, class_label
    from partedvae.results import plural

    if classes and each_class:
        raise click.UsageError("--class and --each-class exclude each other; give one of them")
    with connection.client(model_name, model_version) as client:
        manifest = client.model_info().manifest
        wanted = class_combinations(classes, manifest)
        if each_class:
            first = manifest.factors[0]
            wanted = [{first.name: name} for name in first.class_names]
        results = []
        for chosen in wanted or [{}]:
            results.append(client.generate(count, classes=chosen, seed=seed))
            seed = results[-1].seed  # All rows share the seed, also where the server drew it.
    _draw(results, [class_label(chosen, manifest) for chosen in wanted], output)
    click.echo(f"{plural(count * len(results), 'image')} -> {output} (seed {seed})")


def _draw(results: Sequence[Generated], labels: Sequence[str], output: Path) -> None:
    """Write the picture: one row per requested class, or images with their classes where none was requested."""
    from partedvae.grid import Row, labelled_grid, save_picture

    first = results[0]
    if not labels:
        save_picture(first.to_pil(), output)
        return
    rows = [Row(images=result.images, label=label) for result, label in zip(results, labels, strict=True)]
    save_picture(labelled_grid(rows, f"{first.model} version {first.version}, seed {first.seed}"), output)


def _class_and_prob(factor: Mapping[str, Any]) -> tuple[str, str]:
    return factor["class"], f"{factor['prob']:.4f}"
