"""The commands `serve` and `extract`. Heavy imports are inside the functions, because `--help` imports this module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partedvae.cli.connection import Connection, connection_options
from partedvae.serving.config.options import ENV_PREFIX, as_toml, misspelt_variables, serve_options
from partedvae.serving.config.serve_config import ServeConfig


@click.command(context_settings={"auto_envvar_prefix": ENV_PREFIX})
@serve_options
@click.pass_context
def serve(ctx: click.Context, /, print_config: bool, **values: Any) -> None:
    """Serve the models of a folder over gRPC until SIGTERM or Ctrl-C.

    MODELS_DIR contains <name>/<version>/ as written by `partedvae export`. When the server is ready, it prints one line
    to stdout: "serving on HOST:PORT".

    Every option can also be set by an environment variable (PARTEDVAE_SERVE_MAX_IMAGES for --max-images) or in a
    --config file. A flag overrides the variable, and the variable overrides the file.
    """
    import logging

    from partedvae.serving.config.logging import configure
    from partedvae.serving.errors import ServingError

    try:
        config = ServeConfig(**values)
        configure(config)
        for warning in misspelt_variables():
            logging.getLogger(__name__).warning(warning)
        if print_config:
            click.echo(as_toml(config, ctx))
            return

        def on_ready(address: str) -> None:
            click.echo(f"serving on {address}")

        if config.workers == 1:
            from partedvae.serving.server.worker import run

            run(config, on_ready)
        else:
            from partedvae.serving.server.supervisor import supervise

            supervise(config, on_ready)
    except ServingError as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="A .parquet or .npz file."
)
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="MODELS_DIR/NAME", help="Compute here, with this model."
)
@connection_options(default_server=None)
@click.option("--model-name", default="", metavar="NAME", help="With --server: which model, if the server has several.")
@click.option("--include-z", is_flag=True, help="Write the class-independent z as well.")
@click.option("--include-probs", is_flag=True, help="Write the probability of every class as well.")
@click.option("--batch-size", type=click.IntRange(1, 4096), default=256, show_default=True, help="Images at a time.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="With --model: where.",
)
def extract(
    source: Path,
    output: Path,
    model: Path | None,
    connection: Connection | None,
    model_name: str,
    include_z: bool,
    include_probs: bool,
    batch_size: int,
    device: str,
) -> None:
    """Write the class-related features of many images into a file.

    INPUT is a folder of images (PNG, JPEG, WebP; with its subfolders), an IDX file (also .gz), a .npy or .npz of uint8
    images, or a .txt with a path a line, relative to its own folder. A row an image: its path or index, the class and
    its probability, the features u0, u1, …; images that cannot be read have their reason in the column "error".
    """
    import signal
    import sys
    from contextlib import ExitStack, closing
    from typing import cast

    from partedvae.errors import PartedVAEError, plain
    from partedvae.serving.errors import ServingError
    from partedvae.serving.extract.extract import LocalModel, Model, ServedModel
    from partedvae.serving.extract.extract import extract as run
    from partedvae.serving.extract.inputs import open_source
    from partedvae.serving.extract.outputs import check_suffix
    from partedvae.serving.onnx.devices import Device
    from partedvae.serving.repository.repository import load_model

    if (model is None) == (connection is None):
        raise click.UsageError("give one of --model MODELS_DIR/NAME (compute here) and --server HOST:PORT")
    # Python's own answer to SIGTERM would leave the unfinished file behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_suffix(output)
        images = open_source(source)
        with ExitStack() as stack:
            where: Model
            if model is not None:
                where = LocalModel(load_model(model, cast("Device", device)))
            else:
                assert connection is not None
                where = stack.enter_context(closing(ServedModel(connection, model_name)))
            summary = run(images, where, output, batch_size=batch_size, probs=include_probs, z=include_z)
    except (ServingError, PartedVAEError, OSError) as error:
        raise click.ClickException(plain(error)) from error
    rate = summary.images / summary.seconds
    click.echo(f"{summary.images:,} images -> {output} ({summary.seconds:.1f} s, {rate:,.0f} images/s)")
    if summary.unreadable:
        click.echo(f'{summary.unreadable:,} of them could not be read; the column "error" says why:', err=True)
        for example in summary.examples:
            click.echo(f"  {example}", err=True)
        if summary.unreadable > len(summary.examples):
            click.echo("  …", err=True)
