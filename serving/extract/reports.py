"""Prints the summary of an extraction, for people or as JSON."""

from __future__ import annotations

import json

import click

from partedvae.common.file_names import in_one_line
from partedvae.common.image_folder import LeftOut
from partedvae.results import plural
from partedvae.serving.extract.summary import Summary


def print_summary(summary: Summary, output: str, left_out: LeftOut) -> None:
    """Print what was written to standard output, and what was not as expected to standard error.

    Args:
        summary: of the extraction.
        output: a path or URL.
        left_out: files of the input that are not images.
    """
    counts = summary.counts
    output = in_one_line(output)
    if summary.computed == counts.images:
        rate = counts.images / summary.seconds
        click.echo(f"{plural(counts.images, 'image')} -> {output} ({summary.seconds:.1f} s, {rate:,.0f} images/s)")
    elif summary.computed:
        rate = summary.computed / summary.seconds
        click.echo(
            f"{plural(counts.images, 'image')} -> {output}, {summary.computed:,} of them now ({summary.seconds:.1f} s, "
            f"{rate:,.0f} images/s)"
        )
    else:
        click.echo(f"{plural(counts.images, 'image')} -> {output}, all of them done before")
    if counts.unfamiliar:
        inverted = f" ({counts.inverted:,} would be like them when inverted)" if counts.inverted else ""
        click.echo(
            f"warning: {plural(counts.unfamiliar, 'image')} unlike the training images{inverted}, whose features may "
            'be wrong; the column "unfamiliar" names them',
            err=True,
        )
    if counts.unreadable:
        reasons = 'the column "error" has the reasons' if "error" in summary.include else "--include error adds reasons"
        click.echo(f"{plural(counts.unreadable, 'image')} could not be read; {reasons}:", err=True)
        for example in counts.examples:
            click.echo(f"  {example}", err=True)
        if counts.unreadable > len(counts.examples):
            click.echo("  …", err=True)
    for line in left_out.lines():
        click.echo(f"left out: {line}", err=True)


def print_json(summary: Summary, output: str, left_out: LeftOut) -> None:
    """Print the summary as one JSON object; the arguments are those of `print_summary`."""
    counts = summary.counts
    click.echo(
        json.dumps(
            {
                "output": output,
                "images": counts.images,
                "computed": summary.computed,
                "unreadable": counts.unreadable,
                "unreadable_examples": counts.examples,
                "unfamiliar": counts.unfamiliar,
                "unfamiliar_inverted": counts.inverted,
                "parts": summary.parts,
                "parts_done_before": summary.done_before,
                "seconds": round(summary.seconds, 3),
                "images_per_second": round(summary.computed / summary.seconds, 1),
                "left_out": left_out.counts,
            },
            ensure_ascii=False,
        )
    )
