"""What batch extraction reads: images in a fixed order, of which each process takes the rows that it works on.

A source lists its images once. `Source.part` gives a range of its rows to work on, in this process or in another one:
parts can be pickled. A part yields jobs instead of images: the caller runs them in threads, so that files are read and
decoded ahead, and limits how many run at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from partedvae.common.image_folder import LeftOut
from partedvae.results import ImageArray
from partedvae.v1.manifest_pb2 import ImageSpec

Key = Literal["path", "index"]
"""The column that identifies an image."""
NO_COLUMNS = pa.schema([])


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Consecutive images, ready for the encoder."""

    keys: Sequence[str] | Sequence[int]
    """Path (printable) or index of every image, including unreadable ones."""
    errors: Sequence[str | None]
    """Why an image is unreadable; None for readable ones."""
    images: ImageArray
    """The readable images, uint8 [readable images, height, width, channels] at the model's size."""
    columns: pa.Table | None = None
    """Values of further columns of the input, of every image; see `Source.columns`."""


Job = Callable[[ImageSpec], Prepared]


class Part(Protocol):
    """Consecutive rows of a source. Can be pickled, and read in any process that reaches the same files."""

    def __len__(self) -> int:
        """Return the number of images."""

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that prepare `batch_size` images each, in order; they may run in any thread."""


class Source(Protocol):
    """Images in a fixed order."""

    key: Key
    """What identifies an image."""
    left_out: LeftOut
    """Files of a folder that are not images of the source."""
    columns: pa.Schema
    """Further columns of the input that the output passes on; mostly none."""

    @property
    def manifest_hash(self) -> str:
        """SHA-256 of the list of images, in hexadecimal: another one after an image is added, removed or changed."""

    def __len__(self) -> int:
        """Return the number of images."""

    def part(self, first: int, last: int) -> Part:
        """Return the rows from `first` to before `last`."""
