"""The command `suggest`. Heavy imports are inside the functions, because `--help` imports this module."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from partedvae.cli.connection import Connection, connection_options, model_options, typed
from partedvae.common.click_errors import click_errors
from partedvae.common.click_options import ExplicitOption
from partedvae.common.click_paths import LocalPath
from partedvae.common.data_error import DataError
from partedvae.errors import PartedVAEError
from partedvae.serving.errors import ServingError
from partedvae.serving.extract.options.input import input_argument, input_options
from partedvae.serving.extract.sources.options import InputOptions

if TYPE_CHECKING:
    from partedvae.serving.suggest.ranking import Suggestion

FOLDER = "folder:"
"""Start of the name that training gives a folder of images."""
STRATEGIES = ("auto", "typical", "coverage", "margin")
"""Those of `partedvae.serving.suggest.strategies`, which imports NumPy."""
_FILE = LocalPath(exists=True, dir_okay=False, path_type=Path)


@click.command()
@input_argument
@click.option(
    "--model",
    type=LocalPath(path_type=Path),
    metavar="MODELS_DIR/NAME",
    help="Compute features with the model of this folder, in this process. Overrides PARTEDVAE_SERVER.",
)
@connection_options(default_server=None)
@model_options()
@click.option(
    "--features",
    type=_FILE,
    metavar="FILE",
    help="Features of the same INPUT, a .parquet or .arrow file of 'partedvae extract "
    "--include class,probs,u,z,error'.",
)
@click.option("--count", type=click.IntRange(1), default=10, show_default=True, help="Number of images to suggest.")
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="auto",
    show_default=True,
    help="typical: typical images of groups without a label. coverage: images that resemble most others. margin: "
    "images between two classes. auto: typical, and margin from 10 labels per class.",
)
@click.option(
    "--labels",
    type=_FILE,
    metavar="FILE",
    help="What is labelled already: a table like labels.csv, or a .txt file of names or indices.  [default: labels.csv "
    "of a folder]",
)
@click.option(
    "--factor",
    cls=ExplicitOption,
    metavar="NAME",
    help="The factor to label; without it, a label of any factor counts.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the groups.")
@click.option(
    "--cache",
    type=LocalPath(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder of what is computed once: features and, without a model, a run.  [default: suggest/INPUT]",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    help="Without a model: passes over the images in the run that is trained.  [default: the recipe's]",
)
@click.option(
    "--output",
    type=LocalPath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the images into a text file, which 'partedvae train --labelled file:FILE' and 'partedvae explore "
    "--suggestions FILE' read.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@input_options("path_column", "root", "data", "read_timeout")
@click.pass_context
@click_errors(ServingError, PartedVAEError, DataError, OSError)
def suggest(
    ctx: click.Context,
    /,
    source: str,
    reading: InputOptions,
    model: Path | None,
    connection: Connection | None,
    model_name: str,
    model_version: int,
    features: Path | None,
    count: int,
    strategy: str,
    labels: Path | None,
    factor: str | None,
    seed: int,
    cache: Path | None,
    epochs: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Rank the images of a data set by what a label of each would teach.

    INPUT is what 'partedvae extract' reads: a folder of images, a data set such as mnist, an IDX file, a list of paths
    and others. Of a folder, labels.csv says which images have a label.

    The images are printed by path or index, the most useful first. Features are those of --model, --server or
    --features; without any of them, a model is trained without labels, once, which needs a folder or a data set.
    """
    from contextlib import closing
    from typing import cast

    from partedvae.serving.extract.extractors import RemoteExtractor
    from partedvae.serving.extract.sources.open import open_source
    from partedvae.serving.image_files import silence_pillow
    from partedvae.serving.suggest.extraction import extract_features, local_extractor
    from partedvae.serving.suggest.features import read_features
    from partedvae.serving.suggest.pool import image_names, read_known
    from partedvae.serving.suggest.ranking import suggest as ranked
    from partedvae.serving.suggest.strategies import Strategy
    from partedvae.serving.suggest.unsupervised import features_run, unsupervised_model

    if (model or features) and not typed(ctx, "server"):
        connection = None
    if sum(given is not None for given in (model, connection, features)) > 1:
        raise click.UsageError("--model, --server and --features exclude each other; pass one of them")
    if connection is None and typed(ctx, "model_name"):
        raise click.UsageError("--model-name requires --server; --model is the folder of a model, with its name")
    if model is not None and not typed(ctx, "model_version"):
        model_version = 0  # The environment may have that of a server's model.
    _check_packages()
    silence_pillow()
    source = _source_of(source)
    images = open_source(source, reading)
    folder = Path(source) if Path(source).is_dir() else None
    kept = cache or Path("suggest") / _cache_name(source)
    run = None
    if features is None:
        if connection is not None:
            extractor = RemoteExtractor(connection, model_name, model_version)
            with closing(extractor):
                features = extract_features(images, extractor, kept, _say)
        else:
            if model is None:
                model = unsupervised_model(_dataset_of(source, folder), kept, reading.data_dir, epochs, _say)
                run = features_run(kept)
            features = extract_features(images, local_extractor(model, model_version), kept, _say)
    found = read_features(features)
    names = image_names(images, found.keys)
    known = read_known(names, folder, labels, factor)
    suggestion = ranked(names, found, known, count, strategy=cast("Strategy", strategy), factor=factor, seed=seed)
    if output is not None:
        _write(output, suggestion.names, has_paths=images.key == "path")
    if as_json:
        _print_json(suggestion, features, model, run, known.origin, output)
    else:
        _print(suggestion, known.origin, output, count)
        _print_next(source, folder, output, len(suggestion.names), known.origin, run)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _check_packages() -> None:
    """Report a missing package before minutes of computing."""
    import sklearn  # noqa: F401


def _source_of(given: str) -> str:
    """Return what batch extraction calls an input of training: a folder, and the training images of a data set."""
    from partedvae.common.dataset_files import SPLITS

    if given.startswith(FOLDER) and not os.path.lexists(given):
        return given.removeprefix(FOLDER)
    return f"{given}:train" if given in SPLITS and not os.path.lexists(given) else given


def _dataset_of(source: str, folder: Path | None) -> str:
    """Return what training calls an input.

    Raises:
        ServingError: training cannot read it.
    """
    from partedvae.common.dataset_files import SPLITS

    name, _, split = source.partition(":")
    if folder is not None:
        return f"{FOLDER}{folder.resolve()}"
    if name in SPLITS and split == "train":
        return name
    raise ServingError(
        f"without a model, one is trained, which needs a folder of images or a data set such as mnist, and {source} is "
        "neither; pass --model MODELS_DIR/NAME, --server HOST:PORT or --features FILE"
    )


def _cache_name(source: str) -> str:
    """Return a name for an input, of letters that file systems have; different for folders of the same name."""
    import hashlib

    from partedvae.common.dataset_files import SPLITS
    from partedvae.common.urls import is_url

    if source.partition(":")[0] in SPLITS and not os.path.lexists(source):
        return source.replace(":", "-")
    path = source if is_url(source) else os.path.realpath(source)
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in path.rstrip("/").rpartition("/")[2]).lstrip(".")
    return f"{stem[:40] or 'images'}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}"


def _write(output: Path, names: tuple[str, ...], *, has_paths: bool) -> None:
    from partedvae.common.atomic_write import atomic_write
    from partedvae.serving.suggest.pool import as_line

    output.parent.mkdir(parents=True, exist_ok=True)
    lines = [as_line(name) if has_paths else name for name in names]
    with atomic_write(output) as temporary:
        temporary.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in lines))


def _print(suggestion: Suggestion, origin: str, output: Path | None, count: int) -> None:
    from partedvae.common.file_names import in_one_line
    from partedvae.results import plural

    if output is None:
        for name in suggestion.names:
            click.echo(in_one_line(name))
    else:
        click.echo(f"{plural(len(suggestion.names), 'image')} -> {in_one_line(str(output))}")
    labelled = f"{suggestion.labelled:,} of them labelled" + (f" in {origin}" if origin else "")
    _say(f"{suggestion.strategy}: {plural(suggestion.images, 'image')}, {labelled}")
    for number, why in (
        (suggestion.tests, "for testing"),
        (suggestion.unreadable, "could not be read"),
        (suggestion.unlistable, "with a line break in the name"),
    ):
        if number:
            _say(f"left out: {plural(number, 'image')} {why}")
    if len(suggestion.names) < count:
        _say(f"only {plural(len(suggestion.names), 'image')} without a label")


def _print_json(
    suggestion: Suggestion, features: Path, model: Path | None, run: Path | None, origin: str, output: Path | None
) -> None:
    from partedvae.common.file_names import printable

    click.echo(
        json.dumps(
            {
                "images": [printable(name) for name in suggestion.names],
                "strategy": suggestion.strategy,
                "ranked": suggestion.images,
                "labelled": suggestion.labelled,
                "labels": origin or None,
                "tests": suggestion.tests,
                "unreadable": suggestion.unreadable,
                "features": str(features),
                "model": None if model is None else str(model),
                "features_run": None if run is None else str(run),
                "output": None if output is None else str(output),
            },
            ensure_ascii=False,
        )
    )


def _print_next(
    source: str, folder: Path | None, output: Path | None, count: int, origin: str, run: Path | None
) -> None:
    """Print what to do with the list."""
    import shlex

    if folder is not None:
        words = ["explore", "--label", str(folder), *(["--suggestions", str(output)] if output else [])]
        _say(f"next: {shlex.join(['partedvae', *words])}")
        if run is not None:
            _say(f"then: {shlex.join(['partedvae', 'train', f'{FOLDER}{folder}', '--features', str(run)])}")
    elif output is not None and source.endswith(":train") and not origin:
        words = ["train", source.removesuffix(":train"), "--labels", str(count), "--labelled", f"file:{output}"]
        words += ["--features", str(run)] if run else []
        _say(f"next: {shlex.join(['partedvae', *words])}")
