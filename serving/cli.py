"""The command `serve`. Heavy imports are inside the function, because `--help` imports this module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from partedvae.cli.standard_streams import discard_stdout
from partedvae.cli.system_errors import system_errors_reported
from partedvae.common.click_errors import click_errors
from partedvae.serving.config.options import ENV_PREFIX, as_toml, misspelt_variables, serve_options
from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.errors import ServingError


@click.command(context_settings={"auto_envvar_prefix": ENV_PREFIX})
@serve_options
@click.pass_context
@click_errors(ServingError)
def serve(ctx: click.Context, /, print_config: bool, **values: Any) -> None:
    """Serve the models of a folder over gRPC until SIGTERM or Ctrl-C.

    MODELS_DIR contains <name>/<version>/ as written by `partedvae export`. When the server is ready, it prints one line
    to stdout: "serving on HOST:PORT".

    Every option can also be set by an environment variable (PARTEDVAE_SERVE_MAX_IMAGES for --max-images) or in a
    --config file. A flag overrides the variable, and the variable overrides the file.
    """
    import logging

    from partedvae.serving.grpc.polling import poll_without_event_engine

    poll_without_event_engine()  # Here, so that worker processes inherit it too.

    from partedvae.serving.config.logging import configure, server_logging
    from partedvae.serving.server.signals import signals_while_starting

    config = ServeConfig(**values)
    configure(config)
    for warning in misspelt_variables():
        logging.getLogger(__name__).warning(warning)
    if print_config:
        click.echo(as_toml(config, ctx))
        return

    def on_ready(address: str) -> None:
        try:
            click.echo(f"serving on {address}")
        except OSError:  # The reader has gone, or the disk is full: no reason to refuse calls.
            discard_stdout()
            logging.getLogger(__name__).warning("serving on %s, which could not be written to stdout", address)

    with signals_while_starting(), server_logging(config), _errors_as_records(config):
        if config.workers == 1:
            from partedvae.serving.server.worker import run

            run(config, on_ready)
        else:
            from partedvae.serving.server.supervisor import supervise

            supervise(config, on_ready)


@contextmanager
def _errors_as_records(config: ServeConfig) -> Iterator[None]:
    """Log the error that ends the server, if the log is JSON; in plain text it is the command's own line.

    Raises:
        click.exceptions.Exit: the block has failed, and its error is in the log.
    """
    if config.log_format != "json":
        yield
        return
    import logging

    logger = logging.getLogger(__name__)
    try:
        with system_errors_reported():
            yield
    except ServingError as error:
        logger.critical("%s", error)
        raise click.exceptions.Exit(1) from error
    except click.ClickException as error:
        logger.critical("%s", error.message)
        raise click.exceptions.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        logger.warning("interrupted before calls were accepted")
        raise click.exceptions.Exit(130) from None
