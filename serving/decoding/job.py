"""What the server and its decoding processes exchange: two messages per file in each direction.

Job and file go to the process; the kind of the reply and its content come back. Nothing is pickled: a process whose
decoder a file has taken over must not reach the server.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

from partedvae.common.fit import Fit


class Reply(StrEnum):
    """Kinds of replies."""

    PIXELS = "pixels"
    """uint8 [height, width, channels] in C order."""
    UNSUPPORTED = "unsupported"
    """The message of an `UnsupportedImageError`; the next two likewise."""
    DAMAGED = "damaged"
    EXCESSIVE = "excessive"
    TOO_LARGE = "too large"
    """Width and height, as "WxH"."""
    FAILED = "failed"
    """The traceback of an exception that is none of the above: a bug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How a file is decoded."""

    height: int
    """Rows of the result."""
    width: int
    """Columns of the result."""
    channels: int
    """1 or 3."""
    fit: Fit
    """How an image of another shape is fitted."""
    max_pixels: int
    """Maximum of width times height in the file."""
    memory: int
    """Maximum of the bytes that the process may allocate for it."""
    seconds: float
    """Maximum processor time."""

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and channels of the result."""
        return self.height, self.width, self.channels

    def to_json(self) -> bytes:
        """Return the job as a message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, message: bytes) -> Self:
        """Return the job of a message."""
        return cls(**json.loads(message))
