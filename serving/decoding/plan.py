"""Decides from the structure of image files how they are decoded, and how much memory that takes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from partedvae.common.image_structure import Structure
from partedvae.common.image_structure.structure import BYTES_PER_PIXEL
from partedvae.serving.errors import ImageError, without_frames
from partedvae.serving.image_files import examine_file
from partedvae.serving.images import ImageLimits, PixelBudget, check_count, check_pixels
from partedvae.v1.manifest_pb2 import ImageSpec

THREAD_SECONDS = 0.1
"""Decoding that takes at most this long on a slow processor is done in a thread, which cannot be interrupted."""
THREAD_BYTES = 64 << 20
"""Maximum memory of an image that is decoded in a thread, where nothing limits it."""
PROCESS_BYTES = 64 << 20
"""Memory that a decoding process may allocate besides what the structure of the image says."""
FILE_COPIES = 3
"""Copies of a file while it is handed to a process: one here, and up to two there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """Image files of a request that have been examined."""

    files: Sequence[bytes]
    """All of them."""
    spec: ImageSpec
    """Size and fit of the model's images."""
    quick: dict[int, Structure]
    """The files for threads, by index."""
    quick_seconds: float
    """Upper bound of the time that the files for threads take together."""
    slow: dict[int, Structure]
    """The files for processes, by index."""
    errors: Sequence[ImageError]
    """Files that cannot be used, in order."""
    memory: int
    """Upper bound of the bytes that decoding holds at once, here and in processes, with the resulting batch."""


def plan(files: Sequence[bytes], spec: ImageSpec, limits: ImageLimits, *, threads: int, processes: int) -> DecodePlan:
    """Examine files: some microseconds each.

    Args:
        files: the bytes of each file; an element may be a copy, so that each is used once.
        spec: size of the model's images.
        limits: limits of the request.
        threads: number of files that are decoded at once in threads.
        processes: number of files that are decoded at once in processes.

    Raises:
        InvalidInputError: there are no files, too many, or they have too many pixels together.
    """
    check_count(len(files), limits)
    budget = PixelBudget(limits)
    quick: dict[int, Structure] = {}
    slow: dict[int, Structure] = {}
    errors: list[ImageError] = []
    in_threads: list[int] = []
    in_processes: list[int] = []
    for index in range(len(files)):
        file = files[index]
        try:
            structure = examine_file(index, file)
            check_pixels(index, structure.width, structure.height, limits)
        except ImageError as error:
            errors.append(without_frames(error))
            continue
        budget.spend(structure.pixels)
        if is_quick(structure):
            quick[index] = structure
            in_threads.append(structure.memory + len(file))
        else:
            slow[index] = structure
            in_processes.append(process_bytes(structure) + FILE_COPIES * len(file))
    batch = len(files) * spec.height * spec.width * spec.channels
    held = sum(heapq.nlargest(threads, in_threads)) + sum(heapq.nlargest(processes, in_processes))
    seconds = sum(structure.seconds or 0 for structure in quick.values())
    return DecodePlan(
        files=files, spec=spec, quick=quick, quick_seconds=seconds, slow=slow, errors=errors, memory=batch + held
    )


def largest_image(memory: int, max_file_bytes: int) -> int:
    """Return the pixels that an image may have so that decoding it takes no more than `memory` bytes.

    Args:
        memory: bytes for one request.
        max_file_bytes: largest size of a file.
    """
    in_process = memory - PROCESS_BYTES - FILE_COPIES * max_file_bytes
    return max(in_process, min(memory, THREAD_BYTES // 4)) // BYTES_PER_PIXEL


def is_quick(structure: Structure) -> bool:
    """Report whether the structure of an image says that decoding it is cheap."""
    seconds = structure.seconds
    return seconds is not None and seconds <= THREAD_SECONDS and structure.memory <= THREAD_BYTES


def process_bytes(structure: Structure) -> int:
    """Return the bytes that a process may allocate to decode an image."""
    return PROCESS_BYTES + structure.memory
