"""The commands of this room. Imports only click at the top: `partedvae --help` imports this file for the help texts."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("models_dir", type=click.Path(path_type=Path))
@click.option(
    "--address", default="127.0.0.1:50051", show_default=True, help="HOST:PORT to listen on; port 0 takes a free one."
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where models run."
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of one inference.  [default: the processors allowed]"
)
@click.option(
    "--max-message-mb", type=click.IntRange(1, 2047), default=64, show_default=True, help="Largest message, MiB."
)
@click.option(
    "--max-images", type=click.IntRange(min=1), default=4096, show_default=True, help="Most images of a request."
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What to log to stderr; debug has a line for each request.",
)
def serve(
    models_dir: Path,
    address: str,
    device: str,
    threads: int | None,
    max_message_mb: int,
    max_images: int,
    log_level: str,
) -> None:
    """Serve the models of a folder over gRPC until SIGTERM or Ctrl-C.

    MODELS_DIR holds <name>/<version>/ as `partedvae export` writes them. When the server answers, one line on stdout
    says where: "serving on HOST:PORT".
    """
    import asyncio
    import logging
    from typing import cast

    from serving.errors import ServingError
    from serving.images import ImageLimits
    from serving.repository import ModelRepository
    from serving.rpc.server import ServerOptions, serve_until_stopped
    from serving.devices import Device

    # Libraries speak up only when something is wrong: debug means the server's own lines.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("serving").setLevel(log_level.upper())
    options = ServerOptions(
        address=address,
        max_message_bytes=max_message_mb * 1024 * 1024,
        limits=ImageLimits(max_images=max_images),
    )
    try:
        repository = ModelRepository(models_dir, cast("Device", device), threads)
        asyncio.run(serve_until_stopped(repository, options, on_ready=lambda at: click.echo(f"serving on {at}")))
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
@click.option("--server", metavar="HOST:PORT", help="Let a server compute.")
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
    server: str | None,
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
    from serving.errors import ServingError
    from serving.extract import LocalModel, Model, ServedModel
    from serving.extract import extract as run
    from serving.feature_files import check_suffix
    from serving.inputs import open_source
    from serving.repository import load_model
    from serving.devices import Device

    if (model is None) == (server is None):
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
                assert server is not None
                where = stack.enter_context(closing(ServedModel(server, model_name)))
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
