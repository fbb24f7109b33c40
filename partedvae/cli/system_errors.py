"""Errors of the machine rather than of the input: exhausted memory and threads, and output that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from partedvae.common.click_errors import message_of

_NO_THREADS = "can't start new thread"
_NO_MEMORY = ("can't allocate memory", "out of memory", "Failed to allocate memory")
"""Parts of the messages of PyTorch and ONNX Runtime, which raise a RuntimeError."""


@contextmanager
def system_errors_reported() -> Iterator[None]:
    """Report errors of the machine in one line with the remedy.

    Raises:
        click.ClickException: the block has raised one. All other errors pass, and a `BrokenPipeError`, on which click
            ends quietly.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(message_of(error)) from error
    except MemoryError as error:
        raise click.ClickException(_no_memory(str(error))) from error
    except RuntimeError as error:
        message = str(error)
        if _NO_THREADS in message:
            raise click.ClickException(
                f"{message}: raise the limit of processes (ulimit -u, or that of the container), or end other programs"
            ) from error
        if any(part in message for part in _NO_MEMORY):
            raise click.ClickException(_no_memory(message.partition("\n")[0])) from error
        raise


def _no_memory(reason: str) -> str:
    if reason.startswith("CUDA"):
        return (
            f"not enough memory on the GPU ({reason}): end other programs on it, use smaller batches, or --device cpu"
        )
    details = f" ({reason})" if reason else ""
    return (
        f"not enough memory{details}: end other programs, raise the limit (ulimit -v, or that of the container), or "
        "use smaller batches"
    )
