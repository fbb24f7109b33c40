"""The command `extract`. Heavy imports are inside the function, because `--help` imports this module."""

from __future__ import annotations

from pathlib import Path

import click

from partedvae.cli.connection import Connection, connection_options, model_options, typed
from partedvae.common.click_errors import click_errors
from partedvae.common.click_paths import LocalPath
from partedvae.errors import PartedVAEError
from partedvae.serving.errors import ServingError
from partedvae.serving.extract.options.engine import EngineOptions, engine_options
from partedvae.serving.extract.options.input import input_argument, input_options
from partedvae.serving.extract.options.output import OutputOptions, output_options
from partedvae.serving.extract.sources.options import InputOptions

STRICT = 3
"""Exit code of --strict when an image could not be read."""


@click.command()
@input_argument
@output_options
@click.option(
    "--model",
    type=LocalPath(path_type=Path),
    metavar="MODELS_DIR/NAME",
    help="Run the model of this folder in this process: the newest version that works, or --model-version. Overrides "
    "PARTEDVAE_SERVER.",
)
@connection_options(default_server=None)
@model_options()
@input_options()
@click.option("--batch-size", type=click.IntRange(1, 4096), default=256, show_default=True, help="Images per batch.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="With --model: the device to run on.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="With --model: the numbers that the encoder computes with; int8, on the CPU alone, requires a model that was "
    "exported with --precision int8.",
)
@engine_options
@click.pass_context
@click_errors(ServingError, PartedVAEError, OSError)
def extract(
    ctx: click.Context,
    /,
    source: str,
    reading: InputOptions,
    written: OutputOptions,
    model: Path | None,
    connection: Connection | None,
    model_name: str,
    model_version: int,
    batch_size: int,
    device: str,
    precision: str,
    runs: EngineOptions,
) -> None:
    """Write the class-related features of many images into a file, or a folder of files.

    INPUT is an image file, a folder of images and its subfolders (PNG, JPEG, WebP, BMP, TIFF, GIF; HEIC with the extra
    "heic"), a pattern such as 'photos/**/*.jpg', a list of paths (.txt, .csv, .tsv or .parquet), tar archives, an IDX
    file (optionally .gz), a .npy or .npz of uint8 images, or a data set such as mnist:test; also a URL of these.

    OUTPUT has one row per image: its path or index, and for each factor the columns FACTOR (the class), FACTOR_prob,
    FACTOR_u0, FACTOR_u1, …; the column "unfamiliar" says how an image differs from the training images, and "error" why
    one cannot be read. Hidden files and other files of a folder are left out; the summary counts them by reason.

    The rows are written in parts. After an interruption, the same command does only what is missing.
    """
    import functools
    from contextlib import ExitStack, closing
    from typing import cast

    from partedvae.common.urls import without_credentials
    from partedvae.serving.extract.engine import Engine, LocalEngine
    from partedvae.serving.extract.extraction import Options
    from partedvae.serving.extract.extraction import extract as run
    from partedvae.serving.extract.extractors import Extractor, LocalExtractor, RemoteExtractor
    from partedvae.serving.extract.layout import parse_include
    from partedvae.serving.extract.output.output import check_not_input, parse_output
    from partedvae.serving.extract.reports import print_json, print_summary
    from partedvae.serving.extract.sources.open import open_source
    from partedvae.serving.image_files import silence_pillow
    from partedvae.serving.onnx.devices import Device
    from partedvae.serving.onnx.precision import Precision
    from partedvae.serving.repository.loading import load_model

    if model is not None and not typed(ctx, "server"):
        connection = None
        # Like the server, its model may be set in the environment for other commands.
        model_version = model_version if typed(ctx, "model_version") else 0
        if typed(ctx, "model_name"):
            raise click.UsageError("--model-name requires --server; --model is the folder of a model, with its name")
    if (model is None) == (connection is None):
        raise click.UsageError("pass either --model MODELS_DIR/NAME (runs in this process) or --server HOST:PORT")
    for name in ("device", "precision"):
        if model is None and typed(ctx, name):
            raise click.UsageError(f"--{name} requires --model; a server is started with a --{name} of its own")
    if written.include is not None:
        parse_include(written.include)
    output = parse_output(written.output, written.format)
    check_not_input(output, source)
    silence_pillow()
    say = functools.partial(click.echo, err=True)
    images = open_source(source, reading)
    with ExitStack() as stack:
        extractor: Extractor
        if model is not None:
            # For Ray it is loaded here as well, so that a model that does not work is refused at once.
            here = device if runs.engine == "local" else "cpu"
            loaded = load_model(
                model, model_version, device=cast("Device", here), threads=1, precision=cast("Precision", precision)
            )
            extractor = LocalExtractor(loaded)
        else:
            assert connection is not None
            extractor = stack.enter_context(closing(RemoteExtractor(connection, model_name, model_version)))
        engine: Engine = LocalEngine(extractor, batch_size)
        if runs.engine == "ray":
            from partedvae.serving.extract.ray.engine import RayEngine
            from partedvae.serving.extract.ray.worker_model import BundledModel, ServedModel, WorkerModel

            sent: WorkerModel
            if model is not None:
                sent = BundledModel.read(model, loaded, cast("Device", device))
            else:
                assert connection is not None
                sent = ServedModel(connection=connection, name=extractor.name, version=extractor.version)
            engine = RayEngine(sent, batch_size, runs, say)
        summary = run(
            images,
            extractor,
            output,
            Options(
                include=written.include,
                additional=written.additional,
                familiarity=written.familiarity,
                vectors=written.vectors,
                rows_per_part=written.rows_per_part,
                path_style=reading.path_style,
                given=without_credentials(source),
                resume=written.resume,
                retry_errors=written.retry_errors,
                overwrite=written.overwrite,
                max_errors=written.max_errors,
            ),
            engine,
            say=say,
        )
    if written.as_json:
        print_json(summary, written.output, images.left_out)
    else:
        print_summary(summary, written.output, images.left_out)
    if written.strict and summary.counts.unreadable:
        raise click.exceptions.Exit(STRICT)
