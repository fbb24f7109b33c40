"""What runs in the workers of Ray: an actor that reads, decodes, computes and writes whole parts.

Nothing of an image passes through Ray: the actor receives which images a part has, and returns what it counted.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import zlib
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version

import pyarrow as pa

from partedvae.common.click_errors import message_of
from partedvae.common.cpus import limit_cpus
from partedvae.errors import PartedVAEError
from partedvae.serving.errors import ServingError
from partedvae.serving.extract.extractors import Extractor
from partedvae.serving.extract.output.parts import PartFiles, write_part
from partedvae.serving.extract.ray.worker_model import WorkerModel
from partedvae.serving.extract.sources.source import Part
from partedvae.serving.extract.summary import Counts
from partedvae.serving.image_files import silence_pillow

logger = logging.getLogger(__name__)

RESULTS = pa.schema([("number", pa.int64()), ("counts", pa.string()), ("process", pa.string()), ("error", pa.string())])
"""A row per part: what was counted in it, as JSON, by which process, and instead of the counts why it failed."""


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What all workers of an extraction have in common. Can be pickled."""

    files: PartFiles
    model: WorkerModel
    batch_size: int
    """Images per run of the encoder, or per request."""
    cpus: int
    """Processors of a worker."""
    folder: str
    """Working folder of the command, to which its paths are relative."""
    code_version: str
    """Of the package, where the command runs."""


def task(number: int, part: Part) -> dict[str, object]:
    """Return the row of a part that is missing."""
    # Names of files are long, and similar to each other.
    return {"number": number, "part": zlib.compress(pickle.dumps(part), 1)}


class PartWorker:
    """Writes parts. The model is loaded with the first one, so that its errors are results like others."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Set up the process: its processors, and its working folder where this machine has it."""
        self._settings = settings
        self._extractor: Extractor | None = None
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        limit_cpus(settings.cpus)
        silence_pillow()
        with suppress(OSError):
            os.chdir(settings.folder)

    def __call__(self, tasks: pa.Table) -> pa.Table:
        """Write the parts of a table whose rows are those of `task`, and return one of `RESULTS`."""
        rows = [self._result(row["number"], row["part"]) for row in tasks.to_pylist()]
        return pa.Table.from_pylist(rows, schema=RESULTS)

    def _result(self, number: int, packed: bytes) -> dict[str, object]:
        counts = error = None
        try:
            counts = self._write(number, packed).to_json()
        except (ServingError, PartedVAEError, OSError) as known:
            error = message_of(known)
        except Exception as unexpected:
            logger.exception("part %d failed", number)
            error = f"part {number} failed with {type(unexpected).__name__}: {unexpected}"
        return {"number": number, "counts": counts, "process": self._process, "error": error}

    def _write(self, number: int, packed: bytes) -> Counts:
        settings = self._settings
        done = settings.files.counts_of(number)
        if done is not None:  # By a worker that died before Ray knew of it.
            return done
        if self._extractor is None:
            self._check_version()
            self._extractor = settings.model.open()
        part: Part = pickle.loads(zlib.decompress(packed))
        batch_size = self._extractor.batch_size(settings.batch_size)
        return write_part(settings.files, number, part, self._extractor, batch_size)

    def _check_version(self) -> None:
        here = version("partedvae")
        if here != self._settings.code_version:
            raise ServingError(
                f"the worker on {socket.gethostname()} has partedvae {here}, and the command is of "
                f"{self._settings.code_version}; install the same version on all machines of the cluster"
            )
