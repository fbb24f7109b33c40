"""The options of `extract` that say what is written, and where. `--help` loads this module, so it imports little."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from partedvae.common.click_options import ExplicitOption

COLUMNS = "class,probs,u,z,negative_elbo,reconstruction_error,unfamiliar,error"


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The values of the options."""

    output: str
    """A path or URL."""
    format: str | None
    include: tuple[str, ...] | None
    """Names of columns; None for the default."""
    additional: tuple[str, ...]
    """Names of columns beside these."""
    familiarity: bool
    """Whether the default has the column unfamiliar."""
    vectors: bool
    rows_per_part: int | None
    resume: bool | None
    retry_errors: bool
    overwrite: bool
    strict: bool
    max_errors: int | None
    as_json: bool


_OPTIONS = (
    click.option(
        "--output",
        required=True,
        cls=ExplicitOption,
        metavar="OUTPUT",
        help="A file, .parquet, .arrow, .npz or .csv; any other name is a folder of parts, for many images. Also a URL "
        "such as s3://bucket/features, with the extra 'cloud'.",
    ),
    click.option(
        "--format",
        type=click.Choice(["parquet", "arrow"]),
        help="Format of the parts of a folder.  [default: parquet]",
    ),
    click.option(
        "--include",
        multiple=True,
        metavar="NAME,…",
        help=f"Columns beside the path or index: {COLUMNS.replace(',', ', ')}.  [default: class,u,unfamiliar,error]",
    ),
    click.option("--include-z", is_flag=True, hidden=True),
    click.option("--include-probs", is_flag=True, hidden=True),
    click.option(
        "--familiarity/--no-familiarity",
        default=True,
        show_default=True,
        help="Report images unlike the training images, in the column unfamiliar; extraction then takes up to three "
        "times as long.",
    ),
    click.option(
        "--vectors",
        is_flag=True,
        help="Write u, z and probabilities as one column each, lists of a fixed size, which vector databases read.",
    ),
    click.option(
        "--rows-per-part",
        type=click.IntRange(1),
        help="Rows per part, which is written whole or not at all.  [default: 1,024 to 65,536, for 16 parts]",
    ),
    click.option(
        "--resume/--no-resume",
        default=None,
        help="Fail if there is nothing to resume, or start anew; without either, what is done already is not repeated.",
    ),
    click.option(
        "--retry-errors",
        is_flag=True,
        help="Do parts again that have images which could not be read; all of a file that is complete.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace features of another input, model or options at OUTPUT."),
    click.option("--strict", is_flag=True, help="Exit with 3 if an image could not be read; all rows are written."),
    click.option(
        "--max-errors",
        type=click.IntRange(0),
        metavar="N",
        help="Stop when more than N images could not be read; complete parts are kept.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object."),
)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which receives them as `written`, an `OutputOptions`."""

    @functools.wraps(command)
    def with_output(
        *, include: tuple[str, ...], include_z: bool, include_probs: bool, familiarity: bool, **arguments: Any
    ) -> Any:
        names = tuple(name.strip() for given in include for name in given.split(","))
        if "unfamiliar" in names and not familiarity:
            raise click.UsageError("--include has unfamiliar, which --no-familiarity leaves out")
        written = OutputOptions(
            include=names or None,
            additional=(*(["z"] if include_z else []), *(["probs"] if include_probs else [])),
            familiarity=familiarity,
            **{name: arguments.pop(name) for name in _NAMES},
        )
        return command(written=written, **arguments)

    for option in reversed(_OPTIONS):
        option(with_output)
    return with_output


_NAMES = (
    *("output", "format", "vectors", "rows_per_part", "resume", "retry_errors", "overwrite"),
    *("strict", "max_errors", "as_json"),
)
