"""The command `explore`. Heavy imports are inside the function, because `--help` imports this module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from partedvae.cli.connection import Connection, connection_options, model_options, typed
from partedvae.common.click_errors import click_errors
from partedvae.common.click_paths import LocalPath
from partedvae.common.data_error import DataError
from partedvae.errors import PartedVAEError
from partedvae.serving.errors import ServingError

if TYPE_CHECKING:
    from partedvae.serving.explore.model import ModelAccess

DEFAULT = "127.0.0.1:8080"


@click.command()
@click.option(
    "--model",
    type=LocalPath(exists=True, file_okay=False, path_type=Path),
    metavar="MODELS_DIR/NAME",
    help="Show the model of this folder, in this process. Overrides PARTEDVAE_SERVER.",
)
@connection_options(default_server=None)
@model_options()
@click.option(
    "--features",
    metavar="FILE",
    help="Features of 'partedvae extract', for the map: a file, or a folder of parts.",
)
@click.option(
    "--images",
    metavar="INPUT",
    help="With --features: the images that they were extracted from.  [default: those of the file's footer]",
)
@click.option(
    "--data",
    type=LocalPath(file_okay=False, path_type=Path),
    default="data",
    show_default=True,
    help="Folder of the data sets, if the images are those of one.",
)
@click.option(
    "--runs",
    type=LocalPath(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder of runs, to compare them.",
)
@click.option(
    "--label",
    type=LocalPath(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder of images to label.",
)
@click.option(
    "--suggestions",
    type=LocalPath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --label: the images to label first.",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    default=DEFAULT,
    show_default=True,
    help="Address of the pages. Port 0 is a free one. Addresses that other machines can reach require a token.",
)
@click.option("--open/--no-open", "opens", default=False, show_default=True, help="Open the pages in a browser.")
@click.option(
    "--access-token-file",
    type=LocalPath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Tokens of visitors, one per line. Without it, other addresses than loopback get one that is printed.",
)
@click.pass_context
@click_errors(ServingError, PartedVAEError, DataError, OSError)
def explore(
    ctx: click.Context,
    /,
    model: Path | None,
    connection: Connection | None,
    model_name: str,
    model_version: int,
    features: str | None,
    images: str | None,
    data: Path,
    runs: Path | None,
    label: Path | None,
    suggestions: Path | None,
    address: str,
    opens: bool,
    access_token_file: Path | None,
) -> None:
    """Open web pages that show what a model has learned, until SIGTERM or Ctrl-C.

    They show a model (--model or --server), the features of a data set (--features), runs (--runs), and images to
    label (--label). When the pages are ready, their URL is printed.
    """
    if model is not None and not typed(ctx, "server"):
        connection = None
    if model is not None and connection is not None:
        raise click.UsageError("--model and --server exclude each other; pass one of them")
    if model is not None and typed(ctx, "model_name"):
        raise click.UsageError("--model-name requires --server; --model is the folder of a model, with its name")
    if model is not None and not typed(ctx, "model_version"):
        model_version = 0  # The environment may have that of a server's model.
    if not (model or connection or features or runs or label):
        raise click.UsageError(
            "nothing to explore: pass --model MODELS_DIR/NAME, --server HOST:PORT, --features FILE, --runs FOLDER or "
            "--label FOLDER"
        )
    if suggestions is not None and label is None:
        raise click.UsageError("--suggestions requires --label FOLDER")
    if images is not None and features is None:
        raise click.UsageError("--images requires --features FILE, whose images they are")

    from partedvae.serving.explore.access import COOKIE, Rules
    from partedvae.serving.explore.app import create_app, serve
    from partedvae.serving.explore.context import Context
    from partedvae.serving.explore.features.feature_map import FeatureMap
    from partedvae.serving.explore.labelling.workspace import Workspace
    from partedvae.serving.explore.listen import bound, hosts_of, link, new_token
    from partedvae.serving.image_files import silence_pillow

    silence_pillow()
    workspace = None
    if label is not None:
        workspace = Workspace(label, suggestions, _model_words(model, connection, model_name, model_version))
    with bound(address) as (listener, host, port):
        accepts, token = new_token(address, access_token_file)
        context = Context(
            model=_access(model, connection, model_name, model_version),
            features=None if features is None else FeatureMap(features, images or "", data),
            runs=runs,
            label=label,
            labelling=workspace,
        )
        rules = Rules(hosts=hosts_of(host, accepts), accepts=accepts, cookie=f"{COOKIE}_{port}")
        shown = link(host, port, token)

        def on_ready() -> None:
            click.echo(f"exploring at {shown}")
            if opens:
                click.launch(shown)

        serve(create_app(context, rules), listener, on_ready)


def _model_words(model: Path | None, connection: Connection | None, name: str, version: int) -> list[str]:
    """Return the options of another command for the same model."""
    words: list[str] = []
    if model is not None:
        words = ["--model", str(model)]
    elif connection is not None:
        words = [*connection.words(), *(["--model-name", name] if name else [])]
    return [*words, "--model-version", str(version)] if words and version else words


def _access(model: Path | None, connection: Connection | None, name: str, version: int) -> ModelAccess | None:
    from partedvae.serving.explore.model import AsyncLocalModel, ModelAccess
    from partedvae.serving.local import load

    if model is not None:
        return ModelAccess(AsyncLocalModel(load(model, version)), str(model))
    if connection is not None:
        return ModelAccess(connection.async_client(name, version), connection.server)
    return None
